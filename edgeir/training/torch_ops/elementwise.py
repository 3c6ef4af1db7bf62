"""Arithmetic on elements."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from edgeir.ops.operands import integer_range
from edgeir.training.torch_ops.registry import Call, Representation, Results, reference, torch_op

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "asinh": torch.asinh,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "erf": torch.erf,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "reciprocal": torch.reciprocal,
    "sigmoid": torch.sigmoid,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
}
_ORDER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minimum": torch.minimum,
    "maximum": torch.maximum,
}
_INTEGERS = frozenset({Representation.INTEGERS})


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Call], Results]:
    return lambda call: function(call.tensor(0))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Results]:
    return lambda call: function(call.tensor(0), call.tensor(1))


for _name, _function in _UNARY.items():
    torch_op(_name)(_unary(_function))
for _name, _pair in _BINARY.items():
    torch_op(_name)(_binary(_pair))
for _name, _pair in _ORDER.items():
    torch_op(_name, accepts=_INTEGERS, keeps=True)(_binary(_pair))
torch_op("relu", accepts=_INTEGERS, keeps=True)(_unary(torch.relu))


@torch_op("sign")
def sign(call: Call) -> Results:
    """`torch.sign`, which would give 0 for NaN."""
    x = call.tensor(0)
    return torch.where(x.isnan(), x, torch.sign(x)) if x.is_floating_point() else torch.sign(x)


@torch_op("div")
def divide(call: Call) -> Results:
    """Of floats; integers, which torch refuses to divide by zero, by the reference."""
    a, b = call.tensor(0), call.tensor(1)
    return a / b if a.is_floating_point() else reference(call)


@torch_op("mod")
def modulo(call: Call) -> Results:
    """`torch.fmod` or `torch.remainder`."""
    a, b = call.tensor(0), call.tensor(1)
    if not a.is_floating_point():
        return reference(call)
    return torch.fmod(a, b) if call.attributes["fmod"] else torch.remainder(a, b)


@torch_op("pow")
def power(call: Call) -> Results:
    """In a's dtype."""
    a, b = call.tensor(0), call.tensor(1)
    return torch.pow(a, b.to(a.dtype)) if a.is_floating_point() else reference(call)


@torch_op("where")
def where(call: Call) -> Results:
    """`torch.where`."""
    return torch.where(call.tensor(0), call.tensor(1), call.tensor(2))


@torch_op("clip", accepts=_INTEGERS, keeps=True)
def clip(call: Call) -> Results:
    """`torch.clamp`; bounds of integers are rounded inwards and limited to the type."""
    minimum, maximum = call.attributes["minimum"], call.attributes["maximum"]
    dtype = call.type(0).dtype
    if "float" not in dtype:
        low, high = integer_range(dtype)
        minimum = None if minimum is None else _whole(minimum, math.ceil, low, high)
        maximum = None if maximum is None else _whole(maximum, math.floor, low, high)
    x = call.tensor(0)
    if minimum is None and maximum is None:
        return x
    if x.is_floating_point() and minimum is not None and maximum is not None and minimum <= maximum:
        # The same values, with a much faster gradient than clamp's; at the bounds it is 0, as relu's.
        return torch.nn.functional.hardtanh(x, minimum, maximum)
    return torch.clamp(x, minimum, maximum)


def _whole(bound: float, rounding: Callable[[float], int], low: int, high: int) -> int:
    if not math.isfinite(bound):
        return low if bound < 0 else high
    return min(max(rounding(bound), low), high)


@torch_op("leaky_relu")
def leaky_relu(call: Call) -> Results:
    """`torch.nn.functional.leaky_relu`."""
    return torch.nn.functional.leaky_relu(call.tensor(0), call.attributes["alpha"])
