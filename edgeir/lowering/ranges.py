"""What values a kernel's floats can take, from the ranges of integers and of constants (interval arithmetic)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgeir.ir.graph import Node, Value
from edgeir.lowering.compute.arithmetic import integer_range

Range = tuple[float, float]
"""Least and greatest value; neither is infinite, and NaN is excluded."""

_LARGEST = 2.0**30
"""Half of what int32 holds: far more than roundings of float32 could move a value by."""

_BOUNDED = ("int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32")


def quantized_floats_fit(nodes: Sequence[Node], constant: Callable[[Value], np.ndarray | None]) -> bool:
    """Whether all that the nodes quantize are numbers within ±2^30, and something is quantized.

    Args:
        nodes: the nodes of a kernel, in order.
        constant: the array of a value that is constant, else None.
    """
    known: dict[Value, Range | None] = {}

    def of(value: Value | None) -> Range | None:
        if value is None:
            return (0.0, 0.0)
        if value in known:
            return known[value]
        array = constant(value)
        if array is None:
            if value.type.dtype not in _BOUNDED:
                return None
            low, high = integer_range(value.type.dtype)
            return float(low), float(high)
        if array.size == 0 or value.type.dtype not in (*_BOUNDED, "float32"):
            return None
        return _finite(float(array.astype(np.float64).min()), float(array.astype(np.float64).max()))

    quantized = [node for node in nodes if node.op == "quantize"]
    for node in nodes:
        if node.outputs[0].type.dtype == "float32":
            known[node.outputs[0]] = _range(node, of)
    for node in quantized:
        x, scale = of(node.input(0)), of(node.input(1))
        if scale != (1.0, 1.0) or x is None or max(abs(x[0]), abs(x[1])) > _LARGEST:
            return False
    return bool(quantized)


def _range(node: Node, of: Callable[[Value | None], Range | None]) -> Range | None:
    """The range of a float32 result; None where it is not known."""
    if node.op == "dequantize":
        x, scale, zero = (of(node.inputs[i] if i < len(node.inputs) else None) for i in range(3))
        return _product(_sum(x, _negative(zero)), scale)
    if node.op in ("add", "sub", "mul"):
        a, b = of(node.input(0)), of(node.input(1))
        if node.op == "mul":
            return _product(a, b)
        return _sum(a, b if node.op == "add" else _negative(b))
    x = of(node.inputs[0]) if node.op in ("relu", "clip", "layout_cast") else None
    if x is None or node.op == "layout_cast":
        return x
    low, high = (0.0, None) if node.op == "relu" else (node.attributes["minimum"], node.attributes["maximum"])
    for bound, choose in ((low, max), (high, min)):
        x = x if bound is None else (choose(x[0], float(bound)), choose(x[1], float(bound)))
    return _finite(*x)


def _finite(low: float, high: float) -> Range | None:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _negative(x: Range | None) -> Range | None:
    return None if x is None else (-x[1], -x[0])


def _sum(a: Range | None, b: Range | None) -> Range | None:
    return None if a is None or b is None else _within_float32((a[0] + b[0], a[1] + b[1]))


def _product(a: Range | None, b: Range | None) -> Range | None:
    if a is None or b is None:
        return None
    corners = [x * y for x in a for y in b]
    return _within_float32((min(corners), max(corners)))


def _within_float32(x: Range) -> Range | None:
    """The range if no step of it overflows float32."""
    return x if max(abs(x[0]), abs(x[1])) < 2.0**126 else None
