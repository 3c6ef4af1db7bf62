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
    unit, number = _scalar(call, 1) == 1, _scalar(call, 2)

    def ratio(position: Any) -> Expression:
        x = cast(element(call, 0, position), divided)
        return x if unit else x / cast(element(call, 1, position), divided)

    def body(*position: Any) -> Expression:
        zero = element(call, 2, position)
        if is_float(target):
            return cast(ratio(position) + cast(zero, divided), target)
        rounded = cast(round_half_even(ratio(position)), summed)
        return saturated(rounded + cast(zero, summed), low, high, target)

    narrow = not is_float(target) and high - low < 256 and divided == "float32"
    # A NaN must give 0, which the cheap form does for these zero points.
    if narrow and number is not None and (low == 0 or int(number) % 2 == 0):
        return te.compute(
            call.output_shape,
            lambda *i: rounded_narrow(ratio(i), low, high, int(number), target),
            name="quantize",
        )
    return te.compute(call.output_shape, body, name="quantize")


_FOUR_BITS = {"int4": (-8, 7), "uint4": (0, 15)}
_SHIFT = 3 << 22
"""1.5·2^23: float32 numbers around it are the whole numbers, and their lower bits are those of an integer."""


def _scalar(call: Call, index: int) -> float | int | None:
    """The number that an operand is, if it is a constant of one element."""
    scalar = call.scalars[index]
    return None if scalar is None else scalar.reshape(()).item()


def rounded_narrow(x: Expression, low: int, high: int, zero: int, target: str) -> Expression:
    """saturate(round_half_even(x) + zero) of a float32 to at most 8 bits, in two comparisons and one or two additions.

    x is clamped first; adding 1.5·2^23 then rounds it to a whole number in the sum's low bits. An even zero point is
    part of that addition (the sum is even exactly if the whole number is). NaN gives 0: an unsigned type takes the
    lower bound; with an even zero point a NaN keeps its own low bits, which are 0.
    """
    least, greatest = constant(low - zero, "float32"), constant(high - zero, "float32")
    limited = minimum(greatest, select(x > least, x, least) if low == 0 else maximum(least, x))
    inside, after = (zero, 0) if zero % 2 == 0 else (0, zero)
    bits: Expression = tirx.reinterpret("int32", limited + constant(_SHIFT + inside, "float32"))
    return (bits + constant(after, "int32") if after else bits).astype(target)


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
