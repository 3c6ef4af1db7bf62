"""Activation functions, in terms of the IR's elementwise operators."""

from __future__ import annotations

import math

import numpy as np

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ir.dtype import FLOATS

_EXACT = 2**53


@converter("LeakyRelu")
def leaky_relu(node: ImportNode) -> Value:
    """x where x ≥ 0, alpha·x elsewhere."""
    return node.emit("leaky_relu", node.input(0), alpha=node.attribute("alpha", 0.01))


@converter("PRelu")
def prelu(node: ImportNode) -> Value:
    """x where x ≥ 0, slope·x elsewhere."""
    x, slope = node.input(0), node.input(1)
    negative = node.emit("less", x, node.scalar(0, x))
    return node.emit("where", negative, node.emit("mul", x, slope), x)


@converter("Elu")
def elu(node: ImportNode) -> Value:
    """x where x ≥ 0, alpha·(eˣ − 1) elsewhere."""
    return _exponential(node, node.attribute("alpha", 1.0), 1.0)


@converter("Selu")
def selu(node: ImportNode) -> Value:
    """gamma·x where x > 0, gamma·alpha·(eˣ − 1) elsewhere."""
    alpha, gamma = (
        node.attribute("alpha", 1.67326319217681884765625),
        node.attribute("gamma", 1.05070102214813232421875),
    )
    x = node.input(0)
    return node.emit("mul", _exponential(node, alpha, 1.0), node.scalar(gamma, x))


@converter("Celu")
def celu(node: ImportNode) -> Value:
    """max(0, x) + min(0, alpha·(e^(x / alpha) − 1))."""
    alpha = node.attribute("alpha", 1.0)
    return _exponential(node, alpha, alpha)


def _exponential(node: ImportNode, alpha: float, width: float) -> Value:
    x = node.input(0)
    # The exponential of the negative part cannot overflow.
    negative = node.emit("clip", x, maximum=0.0)
    if width != 1.0:
        negative = node.emit("div", negative, node.scalar(width, x))
    below = node.emit("sub", node.emit("exp", negative), node.scalar(1, x))
    scaled = below if alpha == 1.0 else node.emit("mul", below, node.scalar(alpha, x))
    return node.emit("where", node.emit("greater", x, node.scalar(0, x)), x, scaled)


@converter("HardSigmoid")
def hard_sigmoid(node: ImportNode) -> Value:
    """clip(alpha·x + beta, 0, 1)."""
    return _hard_sigmoid(node, node.attribute("alpha", 0.2), node.attribute("beta", 0.5))


@converter("HardSwish")
def hard_swish(node: ImportNode) -> Value:
    """x·clip(x / 6 + 1/2, 0, 1)."""
    return node.emit("mul", node.input(0), _hard_sigmoid(node, 1 / 6, 0.5))


def _hard_sigmoid(node: ImportNode, alpha: float, beta: float) -> Value:
    x = node.input(0)
    line = node.emit("add", node.emit("mul", x, node.scalar(alpha, x)), node.scalar(beta, x))
    return node.emit("clip", line, minimum=0.0, maximum=1.0)


@converter("Swish")
def swish(node: ImportNode) -> Value:
    """x·sigmoid(alpha·x)."""
    x, alpha = node.input(0), node.attribute("alpha", 1.0)
    scaled = x if alpha == 1.0 else node.emit("mul", x, node.scalar(alpha, x))
    return node.emit("mul", x, node.emit("sigmoid", scaled))


@converter("Gelu")
@converter("Gelu", domain="com.microsoft")
def gelu(node: ImportNode) -> Value:
    """x·Φ(x), or its approximation by tanh."""
    x = node.input(0)
    if node.attribute("approximate", "none") == "tanh":
        cube = node.emit("mul", node.emit("mul", x, x), x)
        inner = node.emit("add", x, node.emit("mul", cube, node.scalar(0.044715, x)))
        bend = node.emit("tanh", node.emit("mul", inner, node.scalar(math.sqrt(2 / math.pi), x)))
    else:
        bend = node.emit("erf", node.emit("mul", x, node.scalar(math.sqrt(0.5), x)))
    half = node.emit("mul", x, node.scalar(0.5, x))
    return node.emit("mul", half, node.emit("add", bend, node.scalar(1, x)))


@converter("Softplus")
def softplus(node: ImportNode) -> Value:
    """ln(eˣ + 1)."""
    return softplus_of(node, node.input(0))


def softplus_of(node: ImportNode, x: Value) -> Value:
    """max(x, 0) + ln(1 + e^−|x|), which does not overflow."""
    decay = node.emit("exp", node.emit("neg", node.emit("abs", x)))
    log = node.emit("log", node.emit("add", decay, node.scalar(1, x)))
    return node.emit("add", node.emit("relu", x), log)


@converter("Mish")
def mish(node: ImportNode) -> Value:
    """x·tanh(softplus(x))."""
    x = node.input(0)
    return node.emit("mul", x, node.emit("tanh", softplus_of(node, x)))


@converter("Softsign")
def softsign(node: ImportNode) -> Value:
    """x / (1 + |x|)."""
    x = node.input(0)
    return node.emit("div", x, node.emit("add", node.emit("abs", x), node.scalar(1, x)))


@converter("ThresholdedRelu")
def thresholded_relu(node: ImportNode) -> Value:
    """x where x > alpha, 0 elsewhere."""
    x = node.input(0)
    above = node.emit("greater", x, node.scalar(node.attribute("alpha", 1.0), x))
    return node.emit("where", above, x, node.scalar(0, x))


@converter("Shrink")
def shrink(node: ImportNode) -> Value:
    """x + bias where x < −lambd, x − bias where x > lambd, 0 between."""
    x, bias, limit = node.input(0), node.attribute("bias", 0.0), node.attribute("lambd", 0.5)
    zero, dtype = node.scalar(0, x), x.type.dtype
    if dtype not in FLOATS:
        x = node.cast(x, "float32")
    shift, bound = node.scalar(bias, x), node.scalar(limit, x)
    low = node.emit("less", x, node.emit("neg", bound))
    high = node.emit("greater", x, bound)
    below, above = node.emit("add", x, shift), node.emit("sub", x, shift)
    inner = node.emit("where", high, node.cast(above, dtype), zero)
    return node.emit("where", low, node.cast(below, dtype), inner)


@converter("Clip")
def clip(node: ImportNode) -> Value:
    """min(max(x, low), high); an absent bound does not limit."""
    x = node.input(0)
    if node.opset < 11:
        lowest, highest = -3.4028234663852886e38, 3.4028234663852886e38
        low, high = node.attribute("min", lowest), node.attribute("max", highest)
        return node.emit("clip", x, minimum=None if low <= lowest else low, maximum=None if high >= highest else high)
    low_value, high_value = node.optional(1), node.optional(2)
    if low_value is None and high_value is None:
        return x
    bounds = [_bound(value) for value in (low_value, high_value)]
    if None not in bounds:
        low, high = (
            None if value is None else bound for value, bound in zip((low_value, high_value), bounds, strict=True)
        )
        return node.emit("clip", x, minimum=low, maximum=high)
    if low_value is not None:
        x = node.emit("maximum", x, low_value)
    return x if high_value is None else node.emit("minimum", x, high_value)


def _bound(value: Value | None) -> float | None:
    """A constant bound as a float that stands for it exactly; None for others. An absent bound is 0 here."""
    if value is None:
        return 0.0
    if not value.is_constant or value.data.size != 1:
        return None
    number = value.data.reshape(())
    if value.type.dtype not in FLOATS and abs(int(number)) > _EXACT:
        return None
    return None if np.isnan(np.float64(number)) else float(number)
