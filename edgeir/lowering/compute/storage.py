"""Element types that are stored in one form and computed in another.

Kernels hold bfloat16, float8 and 4-bit integers as plain integers of the same width in memory (one byte for a 4-bit
integer, as numpy has it), because TVM's own conversions are inexact (float8 zero) or pack two elements into a byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import tirx

from edgeir.lowering.compute.expressions import Expression, cast, constant, is_nan, select

_CARRIERS = {
    "bfloat16": "uint16",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "int4": "int8",
    "uint4": "uint8",
}
_COMPUTED = {name: "float32" for name in _CARRIERS} | {"float16": "float32", "int4": "int8", "uint4": "uint8"}


@dataclass(frozen=True)
class Float8:
    """A float8 format.

    Attributes:
        mantissa: explicit bits of the mantissa.
        bias: exponent bias.
        largest: code of the greatest finite number.
        infinity: code of +∞, or None.
        unsigned_zero: whether 0x80 is the only NaN and −0 does not exist (`fnuz`).
    """

    mantissa: int
    bias: int
    largest: int
    infinity: int | None
    unsigned_zero: bool


# The formats of "FP8 Formats for Deep Learning" (e4m3fn, e5m2) and of ONNX's float8 document (fnuz).
FLOAT8 = {
    "float8_e4m3fn": Float8(3, 7, 0x7E, None, False),
    "float8_e4m3fnuz": Float8(3, 8, 0x7F, None, True),
    "float8_e5m2": Float8(2, 15, 0x7B, 0x7C, False),
    "float8_e5m2fnuz": Float8(2, 16, 0x7F, None, True),
}


def carrier(dtype: str) -> str:
    """The TVM element type that holds a type in memory."""
    return _CARRIERS.get(dtype, dtype)


def computed(dtype: str) -> str:
    """The TVM element type that operators compute in."""
    return _COMPUTED.get(dtype, dtype)


def decode(x: Expression, dtype: str) -> Expression:
    """A stored element of `dtype` as a number of `computed(dtype)`."""
    if dtype == "float16":
        return x.astype("float32")
    if dtype == "bfloat16":
        return tirx.reinterpret("float32", x.astype("uint32") << constant(16, "uint32"))
    if dtype in FLOAT8:
        return _decode_float8(x.astype("int32"), FLOAT8[dtype])
    return x


def encode(x: Expression, dtype: str, saturate: bool = True) -> Expression:
    """A number of `computed(dtype)` rounded (ties to even) to a stored element.

    Args:
        x: the number.
        dtype: the element type.
        saturate: for float8, whether numbers beyond the range become the greatest finite one instead of ∞ or NaN.
    """
    if dtype == "float16":
        return x.astype("float16")
    if dtype == "bfloat16":
        return _encode_bfloat16(x)
    if dtype in FLOAT8:
        return _encode_float8(x, FLOAT8[dtype], saturate)
    if dtype == "int4":
        four = constant(4, "int8")
        return (x << four) >> four
    if dtype == "uint4":
        return x & constant(15, "uint8")
    return x


def convert(x: Expression, source: str, target: str, saturate: bool = True) -> Expression:
    """A stored element of `source` as a stored element of `target`, as numpy and ml_dtypes convert."""
    if source == target:
        return x
    value = decode(x, source) if source != "float16" or target != "float64" else x
    if target in ("bool", "int4", "uint4"):
        return cast(value, "bool") if target == "bool" else encode(cast(value, computed(target)), target)
    return encode(cast(value, computed(target)), target, saturate)


def _encode_bfloat16(x: Expression) -> Expression:
    bits = tirx.reinterpret("uint32", x)
    odd = (bits >> constant(16, "uint32")) & constant(1, "uint32")
    rounded = (bits + constant(0x7FFF, "uint32") + odd) >> constant(16, "uint32")
    quiet = (bits >> constant(16, "uint32")) | constant(0x40, "uint32")
    return select(is_nan(x), quiet, rounded).astype("uint16")


def _int32(value: int) -> Expression:
    return tirx.const(value, "int32")


def _power_of_two(exponent: Expression) -> Expression:
    """2^exponent for −126 ≤ exponent ≤ 127, exact."""
    return tirx.reinterpret("float32", (exponent + _int32(127)) << _int32(23))


def _decode_float8(code: Expression, form: Float8) -> Expression:
    magnitude = code & _int32(0x7F)
    exponent, fraction = magnitude >> _int32(form.mantissa), magnitude & _int32(2**form.mantissa - 1)
    # Subnormal numbers have the exponent of the least normal ones and no implicit bit.
    normal = exponent > 0
    digits = select(normal, fraction + _int32(2**form.mantissa), fraction)
    scale = select(normal, exponent, _int32(1)) - _int32(form.bias + form.mantissa)
    value = digits.astype("float32") * _power_of_two(scale)
    nan = tirx.const(math.nan, "float32")
    if form.infinity is not None:
        value = select(magnitude == form.infinity, tirx.const(math.inf, "float32"), value)
    if form.unsigned_zero:
        return select(code == 0x80, nan, select(code > 0x7F, -value, value))
    beyond = form.largest if form.infinity is None else form.infinity
    value = select(magnitude > beyond, nan, value)
    return select(code > 0x7F, tirx.const(-1.0, "float32") * value, value)


def _encode_float8(x: Expression, form: Float8, saturate: bool) -> Expression:
    bits = tirx.reinterpret("int32", x)
    magnitude_bits = bits & _int32(0x7FFFFFFF)
    least = 1 - form.bias
    exponent = tirx.max((magnitude_bits >> _int32(23)) - _int32(127), _int32(least))
    # Beyond the largest exponent the code saturates anyway; the limit keeps the power of two representable.
    exponent = tirx.min(exponent, _int32(20))
    magnitude = tirx.reinterpret("float32", magnitude_bits)
    limited = select(magnitude < tirx.const(2.0**20, "float32"), magnitude, tirx.const(2.0**20, "float32"))
    digits = tirx.nearbyint(limited * _power_of_two(_int32(form.mantissa) - exponent)).astype("int32")
    code = ((exponent - _int32(least)) << _int32(form.mantissa)) + digits
    overflow = form.largest
    if not saturate:
        overflow = form.infinity if form.infinity is not None else 0x80 if form.unsigned_zero else 0x7F
    not_a_number = 0x80 if form.unsigned_zero else 0x7F if form.infinity is None else 0x7E
    code = select(code > form.largest, _int32(overflow), code)
    negative = bits < 0
    if form.unsigned_zero:
        negative = tirx.all(negative, code != 0, code != 0x80)
    code = select(negative, code | _int32(0x80), code)
    code = select(is_nan(x), (_int32(not_a_number) | select(bits < 0, _int32(0x80), _int32(0))), code)
    return code.astype("uint8")
