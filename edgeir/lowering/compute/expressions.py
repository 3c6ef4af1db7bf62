"""Scalar expressions that several computations share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tvm.te
from tvm import tirx

from edgeir.lowering import te

Expression = Any
"""A TIR expression (`tirx.PrimExpr`); TVM's Python types do not tell more."""

_SIZES = {"bool": 8}


def is_float(dtype: str) -> bool:
    """Whether elements are floating-point numbers."""
    return "float" in dtype


def is_unsigned(dtype: str) -> bool:
    """Whether elements are unsigned integers."""
    return dtype.startswith("uint")


def bits_of(dtype: str) -> int:
    """Width of an element that TVM computes with, in bits."""
    return _SIZES.get(dtype) or int("".join(c for c in dtype if c.isdigit()))


def constant(value: Any, dtype: str) -> Expression:
    """An immediate of an element type; infinities and NaN included."""
    if dtype == "bool":
        return tirx.const(bool(value), "bool")
    if is_float(dtype):
        return tirx.const(float(value), dtype)
    value = int(value)
    if dtype == "uint64" and value >= 2**63:
        high = tirx.const(value >> 32, dtype)
        return (high << tirx.const(32, dtype)) | tirx.const(value & 0xFFFFFFFF, dtype)
    return tirx.const(value, dtype)


def dtype_of(expression: Expression) -> str:
    """The element type of an expression or a tensor."""
    return str(expression.dtype if isinstance(expression, tvm.te.Tensor) else expression.expr_ty())


def constant_value(expression: Expression) -> float | int | None:
    """The number that an immediate holds; None for any other expression."""
    if isinstance(expression, tirx.FloatImm | tirx.IntImm):
        return expression.value
    return None


def lowest(dtype: str) -> Expression:
    """The least value of a type: −∞ for floating point."""
    if is_float(dtype):
        return constant(-math.inf, dtype)
    return constant(False if dtype == "bool" else np.iinfo(dtype).min, dtype)


def highest(dtype: str) -> Expression:
    """The greatest value of a type: +∞ for floating point."""
    if is_float(dtype):
        return constant(math.inf, dtype)
    return constant(True if dtype == "bool" else np.iinfo(dtype).max, dtype)


def select(condition: Expression, a: Expression, b: Expression) -> Expression:
    """`a` where the condition holds, else `b`; both are evaluated."""
    return tirx.Select(condition, a, b)


def is_nan(x: Expression) -> Expression:
    """Whether a floating-point number is NaN."""
    value = constant_value(x)
    return constant(math.isnan(value), "bool") if value is not None else tirx.isnan(x)


def not_a_number_constant(x: Expression) -> bool:
    """Whether an expression is an immediate that is not NaN."""
    value = constant_value(x)
    return value is not None and not math.isnan(value)


def maximum(a: Expression, b: Expression) -> Expression:
    """The greater; NaN if either is NaN (numpy.maximum)."""
    return _extreme(a, b, lambda x, y: x > y)


def minimum(a: Expression, b: Expression) -> Expression:
    """The smaller; NaN if either is NaN (numpy.minimum)."""
    return _extreme(a, b, lambda x, y: x < y)


def _extreme(a: Expression, b: Expression, better: Any) -> Expression:
    if dtype_of(a) == "bool":
        a, b = a.astype("uint8"), b.astype("uint8")
        return select(better(a, b), a, b).astype("bool")
    if not is_float(dtype_of(a)):
        return select(better(a, b), a, b)
    # A comparison with NaN is false, so the number that may be NaN stands in the second place.
    if not_a_number_constant(a):
        return select(better(a, b), a, b)
    if not_a_number_constant(b):
        return select(better(b, a), b, a)
    return select(tirx.any(is_nan(a), better(a, b)), a, b)


def clamp(x: Expression, low: Expression | None, high: Expression | None) -> Expression:
    """x between immediates; NaN stays NaN."""
    if low is not None:
        x = maximum(low, x)
    if high is not None:
        x = minimum(high, x)
    return x


def round_half_even(x: Expression) -> Expression:
    """The nearest integer, ties to even, in x's floating-point type."""
    return tirx.nearbyint(x)


def nan_max() -> Any:
    """A reducer like numpy.max: NaN wins."""
    return te.comm_reducer(lambda a, b: _accumulate(a, b, lambda x, y: x > y), lambda t: lowest(str(t)), name="max")


def nan_min() -> Any:
    """A reducer like numpy.min: NaN wins."""
    return te.comm_reducer(lambda a, b: _accumulate(a, b, lambda x, y: x < y), lambda t: highest(str(t)), name="min")


def _accumulate(a: Expression, b: Expression, better: Any) -> Expression:
    condition = better(b, a)
    return select(tirx.any(is_nan(b), condition) if is_float(dtype_of(a)) else condition, b, a)


def cast(x: Expression, dtype: str) -> Expression:
    """numpy's conversion of an element; values that the new type cannot hold wrap as on x86."""
    source = dtype_of(x)
    if source == dtype:
        return x
    if dtype == "bool":
        return x != constant(0, source)
    if source == "bool":
        return x.astype("int8").astype(dtype) if dtype != "int8" else x.astype("int8")
    if is_float(source) and not is_float(dtype):
        # A narrow or unsigned type takes the low bits of a wider signed integer; LLVM leaves anything else undefined.
        if dtype == "uint64":
            half = constant(2.0**63, "float64" if source == "float64" else "float32")
            wide = x.astype(dtype_of(half))
            top = (wide - half).astype("int64").astype("uint64") + constant(2**63, "uint64")
            return select(wide >= half, top, wide.astype("int64").astype("uint64"))
        return x.astype("int64" if bits_of(dtype) >= 32 else "int32").astype(dtype)
    return x.astype(dtype)


def flat_index(index: Any, shape: tuple[int, ...]) -> Expression:
    """The row-major position of an element; 64-bit where 32 bits could overflow."""
    wide = math.prod(shape) >= 2**31
    total: Expression = tirx.const(0, "int64" if wide else "int32")
    for position, extent in zip(index, shape, strict=True):
        total = total * extent + (position.astype("int64") if wide else position)
    return total


def unravel(position: Expression, shape: tuple[int, ...]) -> list[Expression]:
    """The index of the element at a row-major position."""
    index: list[Expression] = []
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] == 1:
            index.append(tirx.const(0, "int32"))
            continue
        index.append(position if axis == 0 else tirx.floormod(position, shape[axis]))
        position = tirx.floordiv(position, shape[axis])
    return index[::-1]
