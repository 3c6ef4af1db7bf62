"""Element types that are stored in one form and computed in another.

Kernels hold bfloat16, float8 and 4-bit integers as plain integers of the same width in memory (one byte for a 4-bit
integer, as numpy has it), because TVM's own conversions are inexact (float8 zero) or pack two elements into a byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from edgeir.ir.dtype import numpy_dtype
from edgeir.lowering.compute.expressions import Expression, cast, constant, is_nan, select
from edgeir.lowering.compute.tables import Tables

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


def stored(array: np.ndarray) -> np.ndarray:
    """The array in its carrier element type: the same bits, but 4-bit integers by value: their upper bits are open."""
    name = array.dtype.name
    if name in ("int4", "uint4"):
        return array.astype(carrier(name))
    return np.ascontiguousarray(array).reshape(array.shape).view(carrier(name))


def computed(dtype: str) -> str:
    """The TVM element type that operators compute in."""
    return _COMPUTED.get(dtype, dtype)


def decoder(dtype: str, tables: Tables) -> Callable[[Expression], Expression]:
    """A function from stored elements of `dtype` to numbers of `computed(dtype)`.

    Args:
        dtype: the element type.
        tables: receives the 256 values of a float8 type; arithmetic on the bits would take ten times the expression.
    """
    if dtype in FLOAT8:
        values = np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype)).astype(np.float32)
        table = tables.add(values)
        return lambda x: table(x.astype("int32"))
    if dtype == "float16":
        return lambda x: x.astype("float32")
    if dtype == "bfloat16":
        return lambda x: tirx.reinterpret("float32", x.astype("uint32") << constant(16, "uint32"))
    return lambda x: x


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


def converter(source: str, target: str, tables: Tables, saturate: bool = True) -> Callable[[Expression], Expression]:
    """A function from stored elements of `source` to those of `target`, converting as numpy and ml_dtypes do.

    Args:
        source: element type of the operand.
        target: element type of the result.
        tables: receives constants that the conversion reads.
        saturate: see `encode`.
    """
    if source == target:
        return lambda x: x
    # numpy converts float16 to float64 and back directly.
    decode = (lambda x: x) if source == "float16" and target == "float64" else decoder(source, tables)
    if target == "bool":
        return lambda x: cast(decode(x), "bool")
    return lambda x: encode(cast(decode(x), computed(target)), target, saturate)


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
    # One code beyond the greatest finite number stands infinity, or NaN where there is no infinity.
    code = tirx.min(code, _int32(form.largest + (0 if saturate else 1)))
    sign = (bits >> _int32(24)) & _int32(0x80)
    if form.unsigned_zero:
        code = select(code == 0, _int32(0), code | sign)
        return select(is_nan(x), _int32(0x80), code).astype("uint8")
    not_a_number = _int32(0x7F if form.infinity is None else 0x7E)
    return (select(is_nan(x), not_a_number, code) | sign).astype("uint8")
