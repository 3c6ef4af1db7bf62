"""Arithmetic whose machine form has edges: division, remainder, powers, shifts."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from edgeir.lowering.compute.expressions import (
    Expression,
    bits_of,
    cast,
    constant,
    constant_value,
    dtype_of,
    is_float,
    is_unsigned,
    select,
)


def integer_range(dtype: str) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def divide(a: Expression, b: Expression) -> Expression:
    """a / b; integers truncate towards zero, and a division by zero gives 0 instead of a trap."""
    if is_float(dtype_of(a)):
        return a / b
    return _without_traps(a, b, lambda x, y: tirx.truncdiv(x, y), lambda x: constant(0, dtype_of(x)) - x)


def remainder(a: Expression, b: Expression, fmod: bool) -> Expression:
    """a modulo b: with b's sign, or with `fmod` with a's sign. A division of integers by zero gives 0."""
    dtype = dtype_of(a)
    if is_float(dtype):
        # LLVM has no lowering of TVM's own fmod; the C library's is exact.
        rest = tirx.call_pure_extern(dtype, "fmod" if dtype == "float64" else "fmodf", a, b)
        return rest if fmod else _with_sign_of(rest, b)
    rest = _without_traps(a, b, lambda x, y: tirx.truncmod(x, y), lambda x: constant(0, dtype))
    if fmod or is_unsigned(dtype):
        return rest
    return select(tirx.all(rest != 0, (rest ^ b) < 0), rest + b, rest)


def _with_sign_of(rest: Expression, b: Expression) -> Expression:
    zero = constant(0, dtype_of(b))
    moved = select((rest < zero).astype("int8") != (b < zero).astype("int8"), rest + b, rest)
    return select(rest == zero, tirx.copysign(zero, b), moved)


def _without_traps(a: Expression, b: Expression, quotient, minus_one) -> Expression:
    """A quotient guarded against division by zero and, for signed types, by −1 (which overflows for the least a)."""
    dtype = dtype_of(a)
    known = constant_value(b)
    if known is not None and known not in (0, -1):
        return quotient(a, b)
    unsafe = b == 0 if is_unsigned(dtype) else tirx.any(b == 0, b == -1)
    result = quotient(a, select(unsafe, constant(1, dtype), b))
    if not is_unsigned(dtype):
        result = select(b == constant(-1, dtype), minus_one(a), result)
    return select(b == 0, constant(0, dtype), result)


def float_power(a: Expression, b: Expression) -> Expression:
    """a to the power of b in a's type, by the C library; of integers through float64."""
    base = dtype_of(a)
    if not is_float(base):
        return cast(tirx.pow(a.astype("float64"), cast(b, "float64")), base)
    known = constant_value(b)
    if known == 2:
        return a * a
    if known == 0.5 and base == "float32":
        # pow(−∞, ½) is +∞ and pow(−0, ½) is +0, where the root is NaN and −0.
        return _square_root_power(a)
    return tirx.pow(a, cast(b, base))


def _square_root_power(a: Expression) -> Expression:
    infinite = a == constant(-np.inf, "float32")
    return select(infinite, constant(np.inf, "float32"), tirx.sqrt(a + constant(0, "float32")))


def shift_left(a: Expression, b: Expression) -> Expression:
    """a · 2^b, 0 where b is at least the width of a."""
    dtype = dtype_of(a)
    known = constant_value(b)
    if known is not None and 0 <= known < bits_of(dtype):
        return a << constant(known, dtype)
    inside, safe = _shift_count(b, dtype, 0)
    return select(inside, a << safe, constant(0, dtype))


def shift_right(a: Expression, b: Expression) -> Expression:
    """⌊a / 2^b⌋, 0 or −1 where b is at least the width of a."""
    dtype = dtype_of(a)
    known = constant_value(b)
    if known is not None and 0 <= known < bits_of(dtype):
        return a >> constant(known, dtype)
    if is_unsigned(dtype):
        inside, safe = _shift_count(b, dtype, 0)
        return select(inside, a >> safe, constant(0, dtype))
    return a >> _shift_count(b, dtype, bits_of(dtype) - 1)[1]


def _shift_count(b: Expression, dtype: str, otherwise: int) -> tuple[Expression, Expression]:
    """Whether a count lies in [0, width), and the count, or `otherwise` where it does not."""
    # TVM checks shift counts of unsigned types with a subtraction that it then refuses; signed counts pass.
    signed = dtype.removeprefix("u")
    count = b.astype(signed)
    inside = tirx.all(count >= 0, count < bits_of(dtype))
    safe = select(inside, count, constant(otherwise, signed))
    return inside, safe.astype(dtype)
