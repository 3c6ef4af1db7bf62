"""Elementwise operators: one expression per element, operands broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tvm import tirx

from edgeir.ir.types import TensorType, parse_layout
from edgeir.lowering import te
from edgeir.lowering.compute import arithmetic
from edgeir.lowering.compute.expressions import (
    Expression,
    clamp,
    constant,
    dtype_of,
    is_float,
    is_nan,
    is_unsigned,
    maximum,
    minimum,
    round_half_even,
    select,
)
from edgeir.lowering.compute.registry import Call, compute, fixed, physical

Scalar = Callable[..., Expression]


def element(call: Call, index: int, position: Any) -> Expression:
    """The element of the operand at `index` that output element `position` (physical) reads by broadcasting."""
    type = call.type(index)
    scalar = call.scalars[index]
    if scalar is not None:
        return constant(scalar.reshape(()).item(), scalar.dtype.name)
    return read(call.tensor(index), type, position, call.outputs[0])


def read(tensor: te.Tensor, type: TensorType, position: Any, output: TensorType) -> Expression:
    """The element of a broadcast operand at a physical output position."""
    shape = physical(type)
    if all(extent == 1 for extent in shape):
        return tensor(*[0] * len(shape))
    position = list(position)
    if output.layout and not type.layout and len(output.physical_shape()) > output.rank:
        # A plain operand of lower rank beside blocked ones: logical coordinates, lanes beyond the axis clamped.
        _, axis, block = parse_layout(output.layout)
        inner = position.pop()
        size = fixed(output.shape[axis], output.layout)
        position[axis] = position[axis] * block + inner
        if size % block:
            position[axis] = tirx.min(position[axis], size - 1)
    elif type.layout and len(shape) > type.rank:
        axis = parse_layout(type.layout)[1]
        if type.shape[axis] == 1:
            position[-1] = 0
    tail = position[len(position) - len(shape) :]
    return tensor(*[0 if extent == 1 else i for i, extent in zip(tail, shape, strict=True)])


def broadcast(call: Call, function: Scalar) -> te.Tensor:
    """One tensor whose elements are `function(operand elements…)`."""

    def body(*position: Any) -> Expression:
        operands = [element(call, i, position) for i in range(len(call.types)) if call.has(i)]
        return function(*operands)

    return te.compute(call.output_shape, body, name=call.op)


def _sign(x: Expression) -> Expression:
    dtype = dtype_of(x)
    zero, one = constant(0, dtype), constant(1, dtype)
    if is_unsigned(dtype):
        return select(x > zero, one, zero)
    # The last branch is x itself for floats, so that NaN and the sign of zero come through.
    return select(x > zero, one, select(x < zero, constant(-1, dtype), x if is_float(dtype) else zero))


def _abs(x: Expression) -> Expression:
    dtype = dtype_of(x)
    if is_float(dtype):
        return tirx.abs(x)
    return x if is_unsigned(dtype) else select(x < 0, constant(0, dtype) - x, x)


def _erf(x: Expression) -> Expression:
    return tirx.erf(x)


_UNARY: dict[str, Scalar] = {
    "abs": _abs,
    "neg": lambda x: x * constant(-1, dtype_of(x)) if is_float(dtype_of(x)) else constant(0, dtype_of(x)) - x,
    "exp": tirx.exp,
    "log": tirx.log,
    "sqrt": tirx.sqrt,
    "sin": tirx.sin,
    "cos": tirx.cos,
    "tan": tirx.tan,
    "asin": tirx.asin,
    "acos": tirx.acos,
    "atan": tirx.atan,
    "sinh": tirx.sinh,
    "cosh": tirx.cosh,
    "tanh": tirx.tanh,
    "asinh": tirx.asinh,
    "acosh": tirx.acosh,
    "atanh": tirx.atanh,
    "erf": _erf,
    "floor": tirx.floor,
    "ceil": tirx.ceil,
    "round": round_half_even,
    "sign": _sign,
    "reciprocal": lambda x: constant(1, dtype_of(x)) / x,
    "relu": lambda x: maximum(constant(0, dtype_of(x)), x),
    "sigmoid": tirx.sigmoid,
    "logical_not": lambda x: tirx.Not(x),
    "bitwise_not": lambda x: ~x,
    "is_nan": is_nan,
}

_BINARY: dict[str, Scalar] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": arithmetic.divide,
    "minimum": minimum,
    "maximum": maximum,
    "equal": lambda a, b: tirx.EQ(*_ordered(a, b)),
    "less": lambda a, b: tirx.LT(*_ordered(a, b)),
    "less_equal": lambda a, b: tirx.LE(*_ordered(a, b)),
    "greater": lambda a, b: tirx.GT(*_ordered(a, b)),
    "greater_equal": lambda a, b: tirx.GE(*_ordered(a, b)),
    "logical_and": lambda a, b: tirx.all(a, b),
    "logical_or": lambda a, b: tirx.any(a, b),
    "logical_xor": lambda a, b: tirx.NE(*_ordered(a, b)),
    "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b,
    "shift_left": arithmetic.shift_left,
    "shift_right": arithmetic.shift_right,
    "where": select,
}


def _ordered(a: Expression, b: Expression) -> tuple[Expression, Expression]:
    """Booleans as integers, which TVM compares."""
    return (a.astype("uint8"), b.astype("uint8")) if dtype_of(a) == "bool" else (a, b)


def _simple(function: Scalar) -> Callable[[Call], te.Tensor]:
    return lambda call: broadcast(call, function)


for _name, _function in {**_UNARY, **_BINARY}.items():
    compute(_name)(_simple(_function))


def _bound(value: float | None, dtype: str, rounding: Callable[[float], int]) -> Expression | None:
    if value is None:
        return None
    if is_float(dtype):
        return constant(value, dtype)
    low, high = arithmetic.integer_range(dtype)
    whole = min(max(rounding(value), low), high) if math.isfinite(value) else low if value < 0 else high
    return constant(whole, dtype)


@compute("clip")
def clip(call: Call) -> te.Tensor:
    """min(max(x, minimum), maximum); NaN stays."""
    low = _bound(call.attributes["minimum"], call.dtype, math.ceil)
    high = _bound(call.attributes["maximum"], call.dtype, math.floor)
    return broadcast(call, lambda x: clamp(x, low, high))


@compute("leaky_relu")
def leaky_relu(call: Call) -> te.Tensor:
    """x < 0 ? alpha·x : x."""
    alpha = constant(call.attributes["alpha"], call.dtype)
    return broadcast(call, lambda x: select(x < 0, alpha * x, x))


@compute("is_inf")
def is_inf(call: Call) -> te.Tensor:
    """Whether x is an infinity of a wanted sign."""
    attributes: Mapping[str, Any] = call.attributes

    def test(x: Expression) -> Expression:
        result = constant(False, "bool")
        if attributes["detect_positive"]:
            result = tirx.any(result, x == constant(math.inf, dtype_of(x)))
        if attributes["detect_negative"]:
            result = tirx.any(result, x == constant(-math.inf, dtype_of(x)))
        return result

    return broadcast(call, test)


@compute("mod")
def mod(call: Call) -> te.Tensor:
    """The remainder with the divisor's sign, or C's fmod."""
    return broadcast(call, lambda a, b: arithmetic.remainder(a, b, call.attributes["fmod"]))


@compute("pow")
def power(call: Call) -> te.Tensor:
    """a to the power of b, in a's type."""
    if is_float(call.dtype) or is_float(call.type(1).dtype):
        return broadcast(call, arithmetic.float_power)
    return _integer_power(call)


def _integer_power(call: Call) -> te.Tensor:
    """By squaring, modulo 2^bits; each step is a stage, as one expression would double at every step.

    Exponents from 64 on give 0 or ±1 for the bases 0 and ±1, and wrap to 0 for even bases; others take the low bits
    of the exponent, which nothing but an overflow would see.
    """
    shape, dtype = call.output_shape, call.dtype
    one = constant(1, dtype)
    square = te.compute(shape, lambda *i: element(call, 0, i), name="pow_base")
    exponent = te.compute(shape, lambda *i: element(call, 1, i), name="pow_exponent")
    count = dtype_of(exponent)
    result = te.compute(shape, lambda *_: one, name="pow_one")
    for step in range(6):
        result = _times_where(result, square, exponent, constant(1 << step, count))
        if step < 5:
            square = _squared(square)
    if is_unsigned(count):
        return result
    return te.compute(
        shape,
        lambda *i: select(exponent(*i) < 0, broadcast_power(call, i), result(*i)),
        name="pow",
    )


def broadcast_power(call: Call, position: Any) -> Expression:
    """One power through float64."""
    return arithmetic.float_power(element(call, 0, position), element(call, 1, position))


def _times_where(result: te.Tensor, square: te.Tensor, exponent: te.Tensor, bit: Expression) -> te.Tensor:
    """The result, multiplied where the exponent has the bit."""
    return te.compute(
        result.shape,
        lambda *i: select((exponent(*i) & bit) != 0, result(*i) * square(*i), result(*i)),
        name="pow_step",
    )


def _squared(square: te.Tensor) -> te.Tensor:
    return te.compute(square.shape, lambda *i: square(*i) * square(*i), name="pow_square")
