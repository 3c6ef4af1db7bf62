"""Products of dequantized tensors as products of integers.

conv(dequantize(x, sx, zx), dequantize(w, sw), b) → dequantize(conv_integer(x, w, zx), sx·sw) + b;
matmul likewise. A bias that is a whole number of steps sx·sw becomes part of the integer sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeir.ir import Node, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.ops.integer import ACTIVATIONS, WEIGHTS
from edgeir.ops.logarithmic import code_values
from edgeir.passes.quantization.affine import Affine, affine_of, dequantized
from edgeir.passes.quantization.channel_scales import along_channels, per_output_channel
from edgeir.passes.quantization.integer_operands import (
    LEFT,
    MOST_TERMS,
    RIGHT,
    summed_axes,
    without_absent,
    without_zero_points,
    zero_point,
)
from edgeir.passes.quantization.weight_zero_rules import WeightZero
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, op

_WHOLE = 1e-3


@dataclass(frozen=True)
class Weights:
    """The right operand as integers.

    Attributes:
        make: adds what computes the integers (nothing for a constant); returns them.
        scale: a scalar or one number per output channel, as float64; None where `scalar` holds a computed one.
        zero: zero point, None for 0.
        scalar: a computed scale.
    """

    make: Callable[[Rewriter], Value]
    scale: np.ndarray | None
    zero: np.ndarray | Value | None = None
    scalar: Value | None = None


def weights_of(node: Node) -> Weights | str:
    """The right operand of a `conv` or `matmul` as integers, or why it is none."""
    producer = node.input(1).producer
    if producer is None or producer.op not in ("dequantize", "log_dequantize"):
        return "the weights are not dequantized"
    if producer.op == "log_dequantize":
        return _logarithmic(node, producer)
    found = affine_of(producer)
    if found.q.type.dtype not in WEIGHTS or found.q.type.shape != producer.output.type.shape:
        return "the weights are not 8-bit integers"
    if not _is_decoded_constant(found.q):
        if node.op != "matmul" or not found.is_scalar or found.q.type.dtype not in ACTIVATIONS:
            return "the weights are not constant"
        zero = None if found.zero is None or _is_constant_zero(found.zero) else found.zero
        if found.scale.is_constant:
            return Weights(lambda _: found.q, found.scale.data.reshape(()).astype(np.float64), zero)
        return Weights(lambda _: found.q, None, zero, found.scale)
    if not found.scale.is_constant or (found.zero is not None and not found.zero.is_constant):
        return "parameters of the weights are not constant"
    scale = per_output_channel(found.scale.data.astype(np.float64), node)
    zero = None if found.zero is None else per_output_channel(found.zero.data, node)
    if scale is None or (found.zero is not None and zero is None):
        return "parameters of the weights vary along other axes than the output channels"
    return Weights(lambda _: found.q, scale, None if zero is None or not zero.any() else zero)


def _logarithmic(node: Node, producer: Node) -> Weights | str:
    """Codes become ±2^e as 8-bit integers through a table."""
    codes, parameter = producer.input(0), producer.input(1)
    values = code_values(producer.attributes["bits"])
    step = float(np.abs(values[values != 0]).min())
    table = values / step
    if np.abs(table).max() > 127:
        return "the powers of two do not fit 8 bits"
    scale = per_output_channel(parameter.data.astype(np.float64), node) if parameter.is_constant else None
    if scale is None or not codes.is_constant:
        return "parameters of the weights vary along other axes than the output channels"
    entries = 16 if codes.type.dtype == "uint4" else 256
    full = np.resize(table, entries).astype(np.int8)
    return Weights(lambda rewriter: rewriter.add("lookup", codes, rewriter.constant(full, "powers")), scale * step)


def _is_decoded_constant(value: Value) -> bool:
    producer = value.producer
    return value.is_constant or (
        producer is not None
        and producer.op in ("cast", "lookup")
        and all(operand.is_constant for operand in producer.present_inputs)
    )


def _is_constant_zero(value: Value) -> bool:
    return value.is_constant and not value.data.any()


class ToInteger(RewriteRule):
    """conv or matmul of two dequantized tensors → the same of integers, dequantized."""

    name = "to-integer-product"
    pattern = op(("conv", "matmul"), op("dequantize", name="x"))

    def check(self, match: Match) -> str | None:
        """Parameters along output channels only, 8-bit integers, no overflow."""
        node, x = match.root, affine_of(match.node("x"))
        if x.q.type.dtype not in ACTIVATIONS or x.q.type.shape != node.input(0).type.shape:
            return "the input is not of 8-bit integers"
        if not x.is_scalar:
            return "scale or zero point of the input vary"
        weights = weights_of(node)
        if isinstance(weights, str):
            return weights
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and not bias.is_constant and dequantized(bias) is None:
            return "the bias is not constant"
        terms = _terms(node)
        return None if isinstance(terms, int) and terms <= MOST_TERMS else "the sums might overflow"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Sums integers, then scales."""
        node, x = match.root, affine_of(match.node("x"))
        weights = weights_of(node)
        assert isinstance(weights, Weights)
        dtype = numpy_dtype(node.output.type.dtype)
        bias, steps = _bias(node), None
        if x.scale.is_constant and weights.scale is not None:
            steps = float(x.scale.data.reshape(())) * weights.scale
        whole = None if bias is None or steps is None or node.op != "conv" else whole_steps(bias, steps)
        total = rewriter.add(
            f"{node.op}_integer", *_operands(rewriter, node, x, weights, whole), name="sum", **node.attributes
        )
        if steps is None:
            scale = _computed_scale(rewriter, node, x, weights, dtype)
        else:
            scale = rewriter.constant(along_channels(steps.astype(dtype), node), "scale")
        y = rewriter.add("dequantize", total, scale)
        if bias is not None and whole is None:
            y = rewriter.add("add", y, rewriter.constant(along_channels(bias.astype(dtype), node), "bias"))
        rewriter.replace(y)


def _terms(node: Node) -> object:
    shape = node.input(1).type.shape
    if node.op == "matmul":
        return shape[-1 if node.attributes["transpose_b"] else -2]
    count: Any = 1
    for dim in shape[1:]:
        count = count * dim
    return count


def _operands(
    rewriter: Rewriter, node: Node, x: Affine, weights: Weights, bias: np.ndarray | None
) -> list[Value | None]:
    """Operands of the integer product."""
    zero: Value | None = None
    if isinstance(weights.zero, Value):
        zero = _scalar(rewriter, weights.zero)
    elif weights.zero is not None:
        zero = rewriter.constant(np.array(weights.zero), "zero_point")
    x_zero = None if x.zero is None or _is_constant_zero(x.zero) else _scalar(rewriter, x.zero)
    operands: list[Value | None] = [x.q, weights.make(rewriter)]
    if node.op == "conv":
        operands.append(None if bias is None else rewriter.constant(bias, "bias"))
    return without_absent([*operands, x_zero, zero])


def _scalar(rewriter: Rewriter, value: Value) -> Value:
    if value.type.rank == 0:
        return value
    if value.is_constant:
        return rewriter.constant(value.data.reshape(()), value.name)
    return rewriter.add("reshape", value, shape=())


def _computed_scale(rewriter: Rewriter, node: Node, x: Affine, weights: Weights, dtype: np.dtype) -> Value:
    """The product of scales one of which is computed."""
    left = _scalar(rewriter, x.scale)
    if weights.scale is None:
        assert weights.scalar is not None
        return rewriter.add("mul", left, _scalar(rewriter, weights.scalar))
    right = rewriter.constant(along_channels(weights.scale.astype(dtype), node), "scale")
    return rewriter.add("mul", left, right)


def _bias(node: Node) -> np.ndarray | None:
    """The bias in float64, one number per output channel; it may be a dequantized constant."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return None
    found = dequantized(value)
    if found is None:
        return value.data.astype(np.float64)
    zero = 0 if found.zero is None else found.zero.data.astype(np.int64)
    return (found.q.data.astype(np.int64) - zero) * found.scale.data.astype(np.float64)


def whole_steps(bias: np.ndarray, steps: np.ndarray) -> np.ndarray | None:
    """The bias in steps as int32, if it is a whole number of them everywhere (to 1/1000 of a step); else None."""
    with np.errstate(all="ignore"):
        ratio = bias / steps
    rounded = np.rint(ratio)
    if not np.isfinite(ratio).all() or np.abs(rounded).max(initial=0) >= 2**30:
        return None
    # What was a whole number was multiplied and rounded to float32.
    allowed = _WHOLE + 1e-6 * np.abs(rounded)
    return rounded.astype(np.int32) if bool((np.abs(ratio - rounded) <= allowed).all()) else None


class DequantizeSum(RewriteRule):
    """cast(int32 sum)·c → dequantize(sum, c)."""

    name = "dequantize-sum"
    pattern = op("mul", op("cast", anything("sum", where=lambda value: value.type.dtype == "int32"), name="cast"))

    def check(self, match: Match) -> str | None:
        """The factor must not broadcast the sum."""
        cast = match.node("cast")
        if cast.output.type != match.root.output.type or cast.output.type.dtype != "float32":
            return "the factor broadcasts the sum"
        return "it is a square" if match.root.input(0) is match.root.input(1) else None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Makes the factor a scale."""
        factor = next(v for v in match.root.present_inputs if v.producer is not match.node("cast"))
        rewriter.replace(rewriter.add("dequantize", match["sum"], factor))


class ComputedZero(RewriteRule):
    """matmul_integer(a, w, z) → matmul_integer(a, w) − z·Σw for a computed zero point; unpadded conv_integer, too.

    The kernel then sums products alone, and the sums of the constant weights are computed here.
    """

    name = "computed-zero"
    pattern = op(("matmul_integer", "conv_integer"), where=lambda node: _computed_zero(node) is not None)

    def check(self, match: Match) -> str | None:
        """Constant weights without a zero point, and no border that counts as the zero point."""
        node = match.root
        if not node.input(1).is_constant or zero_point(node, RIGHT) is not None:
            return "the weights are not constant, or have a zero point"
        if node.op == "conv_integer" and any(node.attributes["padding"]):
            return "the border counts as the zero point"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Subtracts."""
        node, zero = match.root, _computed_zero(match.root)
        assert zero is not None
        sums = node.input(1).data.astype(np.int64).sum(axis=summed_axes(node))
        sums = along_channels(sums, node) if sums.ndim == 1 else np.expand_dims(sums, -2)
        total = rewriter.add(node.op, *without_zero_points(node), **node.attributes)
        wide = rewriter.add("cast", zero, dtype="int32")
        offset = rewriter.add("mul", wide, rewriter.constant(sums.astype(np.int32), "weight_sums"))
        rewriter.replace(rewriter.add("sub", total, offset))


def _computed_zero(node: Node) -> Value | None:
    zero = zero_point(node, LEFT)
    return None if zero is None or zero.is_constant else zero


INTEGER_RULES: tuple[RewriteRule, ...] = (ToInteger(), DequantizeSum(), WeightZero(), ComputedZero())
