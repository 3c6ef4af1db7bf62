"""Arithmetic on elements."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter
from edgeir.ir.dtype import FLOATS, INTEGERS, UNSIGNED
from edgeir.ops.operands import integer_range

_UNARY = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "round": "Round",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "minimum": "Min", "maximum": "Max"}


@exporter(*_UNARY)
def unary(node: ExportNode) -> str:
    """The function of the same name."""
    return node.widened(_UNARY[node.op], [node.input(0)], [0])


@exporter(*_BINARY)
def binary(node: ExportNode) -> str:
    """The operator of the same meaning; ONNX broadcasts as numpy does."""
    return node.widened(_BINARY[node.op], node.inputs, [0, 1])


@exporter("relu")
def relu(node: ExportNode) -> str:
    """Relu; unsigned numbers stay as they are."""
    if node.type().dtype in UNSIGNED:
        return node.emit("Identity", node.input(0))
    return node.widened("Relu", [node.input(0)], [0])


@exporter("leaky_relu")
def leaky_relu(node: ExportNode) -> str:
    """LeakyRelu."""
    return node.widened("LeakyRelu", [node.input(0)], [0], alpha=node.attribute("alpha"))


@exporter("clip")
def clip(node: ExportNode) -> str:
    """Clip; the bounds of integers are rounded inwards."""
    dtype = node.type().dtype
    bounds = [
        "" if value is None else node.constant(_bound(value, dtype, rounding), dtype)
        for value, rounding in ((node.attribute("minimum"), math.ceil), (node.attribute("maximum"), math.floor))
    ]
    return node.widened("Clip", [node.input(0), *bounds], [0, 1, 2])


def _bound(value: float, dtype: str, rounding: Callable[[float], int]) -> np.ndarray:
    if dtype in FLOATS:
        return np.array(value)
    low, high = integer_range(dtype)
    if not math.isfinite(value):
        return np.array(low if value < 0 else high, np.uint64 if low == 0 else np.int64)
    return np.array(min(max(rounding(value), low), high), np.uint64 if low == 0 else np.int64)


@exporter("mod")
def mod(node: ExportNode) -> str:
    """Mod; of floats ONNX has C's fmod only, from which the remainder of the divisor's sign is made."""
    a, b = node.input(0), node.input(1)
    dtype = node.type().dtype
    fmod = node.attribute("fmod")
    if dtype in INTEGERS or fmod:
        return node.widened("Mod", [a, b], [0, 1], fmod=int(fmod) or None)
    remainder = node.widened("Mod", [a, b], [0, 1], fmod=1)
    zero = node.constant(0, dtype)
    signs_differ = node.emit("Xor", node.emit("Less", remainder, zero), node.emit("Less", b, zero))
    nonzero = node.emit("Not", node.emit("Equal", remainder, zero))
    shifted = node.emit("Add", remainder, b)
    return node.emit("Where", node.emit("And", nonzero, signs_differ), shifted, remainder)


@exporter("pow")
def power(node: ExportNode) -> str:
    """Pow, whose exponent may have another type."""
    return node.widened("Pow", node.inputs, [0])


@exporter("where")
def where(node: ExportNode) -> str:
    """Where."""
    return node.widened("Where", node.inputs, [1, 2])
