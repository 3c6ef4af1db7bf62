"""Formulas of recurrent cells as TIR expressions; they are those of the ONNX operator specification."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgeir.schedules.recurrent_problem import GateFunction
from edgeir.schedules.tir_types import Expression


def _number(like: Expression, value: float) -> Expression:
    return tirx.const(value, str(like.expr_ty()))


def _let(value: Expression, body: Callable[[Expression], Expression]) -> Expression:
    """Evaluates a value once, however often `body` reads it."""
    variable = tirx.Var("gate", str(value.expr_ty()))
    return tirx.Let(variable, value, body(variable))


def clamp(x: Expression, low: float | None, high: float | None) -> Expression:
    """x between two bounds; NaN stays NaN, because a comparison with it is false."""

    if low is not None:
        least = low
        x = _let(x, lambda v: tirx.Select(v < _number(v, least), _number(v, least), v))
    if high is not None:
        most = high
        x = _let(x, lambda v: tirx.Select(v > _number(v, most), _number(v, most), v))
    return x


def _elu(x: Expression, alpha: float) -> Expression:
    def formula(v: Expression) -> Expression:
        grown = tirx.exp(clamp(v, None, 0.0)) - _number(v, 1.0)
        return tirx.Select(v < _number(v, 0.0), grown * _number(v, alpha), v)

    return _let(x, formula)


def _softplus(x: Expression) -> Expression:
    # log(1 + e^x) without overflow: max(x, 0) + log(1 + e^−|x|).
    def formula(v: Expression) -> Expression:
        size = tirx.Select(v < _number(v, 0.0), _number(v, 0.0) - v, v)
        return clamp(v, 0.0, None) + tirx.log(tirx.exp(_number(v, 0.0) - size) + _number(v, 1.0))

    return _let(x, formula)


def _softsign(x: Expression) -> Expression:
    return _let(x, lambda v: v / (tirx.Select(v < _number(v, 0.0), _number(v, 0.0) - v, v) + _number(v, 1.0)))


_FUNCTIONS: dict[str, Callable[[Expression, float, float], Expression]] = {
    "relu": lambda x, a, b: clamp(x, 0.0, None),
    "tanh": lambda x, a, b: tirx.tanh(x),
    "sigmoid": lambda x, a, b: tirx.sigmoid(x),
    "affine": lambda x, a, b: x * _number(x, a) + _number(x, b),
    "leakyrelu": lambda x, a, b: _let(x, lambda v: tirx.Select(v < _number(v, 0.0), v * _number(v, a), v)),
    "thresholdedrelu": lambda x, a, b: _let(x, lambda v: tirx.Select(v > _number(v, a), v, _number(v, 0.0))),
    "scaledtanh": lambda x, a, b: tirx.tanh(x * _number(x, b)) * _number(x, a),
    "hardsigmoid": lambda x, a, b: clamp(x * _number(x, a) + _number(x, b), 0.0, 1.0),
    "elu": lambda x, a, b: _elu(x, a),
    "softsign": lambda x, a, b: _softsign(x),
    "softplus": lambda x, a, b: _softplus(x),
}


def known_function(name: str) -> bool:
    """Whether an activation function has a formula here."""
    return name in _FUNCTIONS


def activate(function: GateFunction, x: Expression, clip: float | None = None) -> Expression:
    """The function of an expression, which is first limited to ±clip."""
    bounded = x if clip is None else clamp(x, -clip, clip)
    return _FUNCTIONS[function.name](bounded, function.alpha, function.beta)
