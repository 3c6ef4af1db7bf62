"""Arithmetic forms of float32 exp, tanh, erf, sigmoid and isnan: a vectorised loop then holds no library call.

LLVM turns `exp` of a vector into one library call per lane. The forms here are plain arithmetic: correct to a few units
in the last place, infinities and NaN included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.s_tir.stmt import SBlock

from edgeir.schedules.analysis import call_name, uses
from edgeir.schedules.tir_types import AnyBlock, AnyFunc, Expression

# Cephes expf: exp(r) on |r| <= ln(2) / 2, highest power first; exp(r) = 1 + r + r^2 * polynomial(r).
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Eigen's rational forms of tanh on |x| <= 7.905 and erf on |x| <= 4: x * numerator(x^2) / denominator(x^2).
_TANH_LIMIT = 7.90531110763549805
_TANH_NUMERATOR = (
    -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
    6.37261928875436e-04, 4.89352455891786e-03,
)  # fmt: skip
_TANH_DENOMINATOR = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
_ERF_LIMIT = 4.0
_ERF_NUMERATOR = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_DENOMINATOR = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
)  # fmt: skip


def _float(value: float) -> Expression:
    return tirx.const(value, "float32")


def _named(value: Expression, body: Callable[[Expression], Expression]) -> Expression:
    """Evaluates `value` once, however often `body` reads it."""
    variable = tirx.Var("t", "float32")
    return tirx.Let(variable, value, body(variable))


def _polynomial(x: Expression, coefficients: Sequence[float]) -> Expression:
    result = _float(coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + _float(coefficient)
    return result


def _clamp(x: Expression, low: float, high: float) -> Expression:
    """x between low and high; NaN stays NaN, because a comparison with it is false."""
    above = tirx.Select(x < _float(low), _float(low), x)
    return _named(above, lambda v: tirx.Select(v > _float(high), _float(high), v))


def exp(x: Expression) -> Expression:
    """exp of a float32 scalar expression; overflow gives infinity, results below 2.4e-38 are 0."""

    def scaled(v: Expression, n: Expression) -> Expression:
        r = v - n * _float(_LN2_HIGH) - n * _float(_LN2_LOW)
        # Twice the mantissa times half the power: 2^128 itself is no float, and 2^-127 is 0 in the bits below.
        bits = (n.astype("int32") + tirx.const(126, "int32")) << tirx.const(23, "int32")
        power = tirx.reinterpret("float32", bits)
        return _named(r, lambda r: (_polynomial(r, [2 * c for c in _EXP]) * (r * r) + (r + r) + _float(2.0)) * power)

    def rounded(v: Expression) -> Expression:
        return _named(tirx.floor(v * _float(_LOG2_E) + _float(0.5)), lambda n: scaled(v, n))

    return _named(x, lambda v: _named(_clamp(v, -87.5, 89.0), rounded))


def sigmoid(x: Expression) -> Expression:
    """1 / (1 + exp(-x)) of a float32 scalar expression."""
    return _float(1.0) / (_float(1.0) + exp(_float(0.0) - x))


def _rational(x: Expression, limit: float, numerator: Sequence[float], denominator: Sequence[float]) -> Expression:
    def ratio(v: Expression) -> Expression:
        return _named(v * v, lambda s: v * _polynomial(s, numerator) / _polynomial(s, denominator))

    return _named(x, lambda v: _named(_clamp(v, -limit, limit), ratio))


def tanh(x: Expression) -> Expression:
    """Hyperbolic tangent of a float32 scalar expression."""
    return _rational(x, _TANH_LIMIT, _TANH_NUMERATOR, _TANH_DENOMINATOR)


def erf(x: Expression) -> Expression:
    """Error function of a float32 scalar expression."""
    return _rational(x, _ERF_LIMIT, _ERF_NUMERATOR, _ERF_DENOMINATOR)


def is_nan(x: Expression, bits: int) -> Expression:
    """Whether a float32 or float64 scalar expression is NaN: a vector of `isnan` calls would be scalar code."""
    dtype, infinity = f"int{bits}", {32: 0x7F800000, 64: 0x7FF0000000000000}[bits]
    magnitude = tirx.reinterpret(dtype, x) & tirx.const((1 << (bits - 1)) - 1, dtype)
    return magnitude > tirx.const(infinity, dtype)


_FORMS: dict[str, Callable[[Expression], Expression]] = {
    "exp": exp,
    "tanh": tanh,
    "erf": erf,
    "sigmoid": sigmoid,
}


def vectorizable_math(func: AnyFunc) -> AnyFunc:
    """The function with every float32 exp, tanh, erf, sigmoid and isnan written as arithmetic."""

    def replace(call: Call) -> Expression:
        form = _FORMS.get(call_name(call))
        return form(call.args[0]) if form is not None and str(call.ty) == "float32" else call

    return tvm_ffi.structural_map(func, ((Call, replace),))


_ROUNDING = frozenset(("round", "nearbyint", "rint", "floor", "ceil", "trunc"))


def _rounds(value: Expression) -> bool:
    """Whether an expression rounds floats to whole numbers."""
    found: list[bool] = []

    def call(expression: Call) -> Call:
        found.append(call_name(expression) in _ROUNDING)
        return expression

    def cast(expression: tirx.Cast) -> tirx.Cast:
        found.append("int" in str(expression.ty) and "float" in str(expression.value.ty))
        return expression

    tvm_ffi.structural_map(value, ((Call, call), (tirx.Cast, cast)))
    return any(found)


def hoisted_divisions(func: AnyFunc) -> AnyFunc:
    """The function with x / y as x * (1 / y) where y is the same for a whole vector, which differs in the last bit.

    A vector division costs as much as a polynomial; the reciprocal is computed once for all vectors of a row.
    """

    def rewrite(block: AnyBlock) -> AnyBlock:
        if not block.iter_vars or block.init is not None or not isinstance(block.body, tirx.BufferStore):
            return block
        if _rounds(block.body.value):
            # Where a quotient is rounded to a whole number, its last bit decides ties.
            return block
        innermost = block.iter_vars[-1].var

        def multiply(division: tirx.Div) -> Expression:
            if str(division.ty) != "float32" or not uses(division.a, innermost) or uses(division.b, innermost):
                return division
            return division.a * (_float(1.0) / division.b)

        body = tvm_ffi.structural_map(block.body, ((tirx.Div, multiply),))
        return SBlock(
            block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers,
            block.match_buffers, block.annotations,
        )  # fmt: skip

    return tvm_ffi.structural_map(func, ((SBlock, rewrite),))
