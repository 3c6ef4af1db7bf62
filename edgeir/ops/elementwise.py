"""Arithmetic on elements: unary and binary functions, where, clip, leaky_relu."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.ir.dtype import DTYPES, SIGNED
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.broadcasting import broadcast_shapes
from edgeir.ops.operands import (
    ARITHMETIC_FLOATS,
    NUMERIC,
    check_dtype,
    check_same_dtype,
    integer_range,
    present,
    widen,
)

Function = Callable[..., np.ndarray]

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Unary(Op):
    """y[i] = function(x[i]); float16 and bfloat16 are computed in float32."""

    operands = ("x",)
    pattern = Pattern.ELEMENTWISE
    function: ClassVar[Function]
    dtypes: ClassVar[Collection[str]]
    result_dtype: ClassVar[str | None] = None

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The type of x (with `result_dtype` if the operator has one)."""
        x = present(inputs, 0)
        check_dtype("x", x, self.dtypes)
        return [TensorType(self.result_dtype or x.dtype, x.shape)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """Applies the function."""
        x = present(inputs, 0)
        result = np.asarray(type(self).function(widen(x), **attributes))
        return [result.astype(self.result_dtype or x.dtype, copy=False)]


class Binary(Op):
    """y = function(a, b) with numpy broadcasting; float16 and bfloat16 are computed in float32."""

    operands = ("a", "b")
    pattern = Pattern.ELEMENTWISE
    function: ClassVar[Function]
    dtypes: ClassVar[Collection[str]]
    result_dtype: ClassVar[str | None] = None
    same_dtype: ClassVar[bool] = True

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The broadcast shape, in the dtype of a (or `result_dtype`)."""
        a, b = present(inputs, 0), present(inputs, 1)
        check_dtype("a", a, self.dtypes)
        check_dtype("b", b, self.dtypes)
        if self.same_dtype:
            check_same_dtype(a, b)
        return [TensorType(self.result_dtype or a.dtype, broadcast_shapes(a.shape, b.shape))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """Applies the function."""
        a, b = present(inputs, 0), present(inputs, 1)
        result = np.asarray(type(self).function(widen(a), widen(b), **attributes))
        return [result.astype(self.result_dtype or a.dtype, copy=False)]


def define(
    base: type[Unary] | type[Binary],
    name: str,
    function: Function,
    dtypes: Collection[str],
    doc: str,
    **extra: Any,
) -> None:
    """Registers a unary or binary operator: its name, numpy function, the dtypes it takes, and what it is."""
    namespace = {"name": name, "function": staticmethod(function), "dtypes": frozenset(dtypes), "__doc__": doc, **extra}
    cls: type = type(name.title().replace("_", ""), (base,), namespace)
    register(cls)


_SIGNED_NUMERIC = ARITHMETIC_FLOATS | (SIGNED - {"int4"})


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _reciprocal(x: np.ndarray) -> np.ndarray:
    return 1 / x


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.zeros((), x.dtype))


_UNARY: tuple[tuple[str, Function, Collection[str], str], ...] = (
    ("abs", np.abs, NUMERIC, "|x|."),
    ("neg", np.negative, _SIGNED_NUMERIC, "−x."),
    ("sign", np.sign, NUMERIC, "−1, 0 or 1 by the sign of x."),
    ("relu", _relu, NUMERIC, "max(x, 0)."),
    ("exp", np.exp, ARITHMETIC_FLOATS, "eˣ."),
    ("log", np.log, ARITHMETIC_FLOATS, "Natural logarithm."),
    ("sqrt", np.sqrt, ARITHMETIC_FLOATS, "Square root."),
    ("sin", np.sin, ARITHMETIC_FLOATS, "Sine of x in radians."),
    ("cos", np.cos, ARITHMETIC_FLOATS, "Cosine of x in radians."),
    ("tan", np.tan, ARITHMETIC_FLOATS, "Tangent of x in radians."),
    ("asin", np.arcsin, ARITHMETIC_FLOATS, "Inverse sine, in radians."),
    ("acos", np.arccos, ARITHMETIC_FLOATS, "Inverse cosine, in radians."),
    ("atan", np.arctan, ARITHMETIC_FLOATS, "Inverse tangent, in radians."),
    ("sinh", np.sinh, ARITHMETIC_FLOATS, "Hyperbolic sine."),
    ("cosh", np.cosh, ARITHMETIC_FLOATS, "Hyperbolic cosine."),
    ("tanh", np.tanh, ARITHMETIC_FLOATS, "Hyperbolic tangent."),
    ("asinh", np.arcsinh, ARITHMETIC_FLOATS, "Inverse hyperbolic sine."),
    ("acosh", np.arccosh, ARITHMETIC_FLOATS, "Inverse hyperbolic cosine."),
    ("atanh", np.arctanh, ARITHMETIC_FLOATS, "Inverse hyperbolic tangent."),
    ("erf", _erf, ARITHMETIC_FLOATS, "Error function."),
    ("floor", np.floor, ARITHMETIC_FLOATS, "Greatest whole number not above x."),
    ("ceil", np.ceil, ARITHMETIC_FLOATS, "Least whole number not below x."),
    ("round", np.rint, ARITHMETIC_FLOATS, "Nearest whole number, halves to even."),
    ("reciprocal", _reciprocal, ARITHMETIC_FLOATS, "1 / x."),
    ("sigmoid", _sigmoid, ARITHMETIC_FLOATS, "1 / (1 + e⁻ˣ)."),
)
for _name, _function, _dtypes, _doc in _UNARY:
    define(Unary, _name, _function, _dtypes, _doc)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return a / b
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def _mod(a: np.ndarray, b: np.ndarray, fmod: bool) -> np.ndarray:
    return np.fmod(a, b) if fmod else np.mod(a, b)


def _power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return np.power(a, b.astype(a.dtype))
    if b.dtype.kind == "f" or (b < 0).any():
        return np.power(a.astype(np.float64), b.astype(np.float64))
    return np.power(a, b.astype(a.dtype))


_BINARY: tuple[tuple[str, Function, Collection[str], str], ...] = (
    ("add", np.add, NUMERIC, "a + b."),
    ("sub", np.subtract, NUMERIC, "a − b."),
    ("mul", np.multiply, NUMERIC, "a · b."),
    ("div", _divide, NUMERIC, "a / b; integers truncate towards zero."),
    ("minimum", np.minimum, NUMERIC, "The lesser of a and b; NaN if one is."),
    ("maximum", np.maximum, NUMERIC, "The greater of a and b; NaN if one is."),
)
for _name, _function, _dtypes, _doc in _BINARY:
    define(Binary, _name, _function, _dtypes, _doc)
define(
    Binary,
    "mod",
    _mod,
    NUMERIC,
    "Remainder of a / b: with the sign of b, or with `fmod` the sign of a (C's fmod).",
    attributes={"fmod": Attribute(Kind.BOOL, False)},
)
define(Binary, "pow", _power, NUMERIC, "a to the power of b, in the dtype of a.", same_dtype=False)


@register
class Where(Op):
    """condition ? a : b, with broadcasting of all three; condition is bool, a and b have one dtype."""

    name = "where"
    operands = ("condition", "a", "b")
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The broadcast shape, in the dtype of a."""
        condition, a, b = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        check_dtype("condition", condition, {"bool"})
        check_dtype("a", a, DTYPES)
        check_same_dtype(a, b)
        return [TensorType(a.dtype, broadcast_shapes(condition.shape, a.shape, b.shape))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy.where."""
        return [np.where(present(inputs, 0), present(inputs, 1), present(inputs, 2))]


@register
class Clip(Unary):
    """min(max(x, minimum), maximum) with constant bounds; a bound that is absent does not limit.

    For integers, bounds are rounded inwards and limited to the range of the type.
    """

    name = "clip"
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "minimum": Attribute(Kind.FLOAT, None),
        "maximum": Attribute(Kind.FLOAT, None),
    }
    dtypes = NUMERIC

    @staticmethod
    def function(x: np.ndarray, minimum: float | None, maximum: float | None) -> np.ndarray:
        """The clipped array."""
        if minimum is not None:
            x = np.maximum(x, _bound(minimum, x.dtype, math.ceil))
        if maximum is not None:
            x = np.minimum(x, _bound(maximum, x.dtype, math.floor))
        return x


def _bound(value: float, dtype: np.dtype, rounding: Callable[[float], int]) -> np.ndarray:
    if dtype.kind == "f":
        return np.array(value, dtype)
    low, high = integer_range(dtype.name)
    return np.array(min(max(rounding(value), low), high) if math.isfinite(value) else low if value < 0 else high, dtype)


@register
class LeakyRelu(Unary):
    """x where x ≥ 0, alpha·x elsewhere."""

    name = "leaky_relu"
    attributes: ClassVar[Mapping[str, Attribute]] = {"alpha": Attribute(Kind.FLOAT)}
    dtypes = ARITHMETIC_FLOATS

    @staticmethod
    def function(x: np.ndarray, alpha: float) -> np.ndarray:
        """The activated array."""
        return np.where(x < 0, np.array(alpha, x.dtype) * x, x)
