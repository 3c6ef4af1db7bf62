"""Conversions between element types, quantization included."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.arithmetic import integer_range
from edgeir.lowering.compute.elementwise import element
from edgeir.lowering.compute.expressions import (
    Expression,
    cast,
    constant,
    dtype_of,
    is_float,
    is_nan,
    maximum,
    minimum,
    round_half_even,
    select,
)
from edgeir.lowering.compute.registry import Call, compute
from edgeir.lowering.compute.storage import carrier, converter


@compute("cast")
def cast_elements(call: Call) -> te.Tensor:
    """numpy's conversion; float8 saturates if asked to."""
    source, target = call.type(0).dtype, call.dtype
    saturate = bool(call.attributes["saturate"])
    x, convert = call.tensor(0), converter(source, target, call.tables, saturate)
    return te.compute(x.shape, lambda *i: convert(x(*i)), name="cast")


@compute("bit_cast")
def bit_cast(call: Call) -> te.Tensor:
    """The same bits, read as another type of the same width."""
    x = call.tensor(0)
    source, target = dtype_of(x), carrier(call.dtype)
    if source == target:
        return te.compute(x.shape, lambda *i: x(*i), name="bit_cast")
    if "bool" in (source, target):
        return te.compute(x.shape, lambda *i: cast(x(*i), target), name="bit_cast")
    return te.compute(x.shape, lambda *i: tirx.reinterpret(target, x(*i)), name="bit_cast")


@compute("quantize")
def quantize(call: Call) -> te.Tensor:
    """saturate(round_half_even(x / scale) + zero), the quotient in float32 (float64 if an operand is)."""
    target = call.dtype
    low, high = (0, 0) if is_float(target) else integer_range(target)
    low, high = _FOUR_BITS.get(call.stored, (low, high))
    divided = "float64" if "float64" in (call.type(0).dtype, call.type(1).dtype) else "float32"
    # float32 holds every sum that matters for 8 and 16 bits; beyond, the result saturates anyway.
    summed = "float64" if high > 2**16 else divided

    def body(*position: Any) -> Expression:
        x, scale, zero = (element(call, index, position) for index in (0, 1, 2))
        ratio = cast(x, divided) / cast(scale, divided)
        if is_float(target):
            return cast(ratio + cast(zero, divided), target)
        return saturated(cast(round_half_even(ratio), summed) + cast(zero, summed), low, high, target)

    return te.compute(call.output_shape, body, name="quantize")


_FOUR_BITS = {"int4": (-8, 7), "uint4": (0, 15)}


def saturated(value: Expression, low: int, high: int, target: str) -> Expression:
    """A whole number in floating point, clamped and converted to an integer type; NaN becomes 0."""
    source = dtype_of(value)
    limited = minimum(constant(high, source), maximum(constant(low, source), value))
    if high > 2**16:
        # The machine's conversion of NaN has low bits of 0, which is enough for narrower types only.
        limited = select(is_nan(value), constant(0, source), limited)
    return cast(limited, target)


@compute("dequantize")
def dequantize(call: Call) -> te.Tensor:
    """(x − zero) · scale: the difference of integers, the product in float32 (float64 if scale is)."""
    target = call.dtype

    def body(*position: Any) -> Expression:
        x, scale = element(call, 0, position), element(call, 1, position)
        if call.has(2):
            wide = "float32" if is_float(dtype_of(x)) else "int64" if dtype_of(x) in ("int32", "uint32") else "int32"
            x = cast(x, wide) - cast(element(call, 2, position), wide)
        return cast(x, target) * scale

    return te.compute(call.output_shape, body, name="dequantize")
