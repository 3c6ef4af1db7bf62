"""Comparison, logic and bits of elements; no gradient passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgeir.training.torch_ops.registry import Call, Results, torch_op

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "logical_not": torch.logical_not,
    "bitwise_not": torch.bitwise_not,
    "is_nan": torch.isnan,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "equal": torch.eq,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "bitwise_and": torch.bitwise_and,
    "bitwise_or": torch.bitwise_or,
    "bitwise_xor": torch.bitwise_xor,
}


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Call], Results]:
    return lambda call: function(call.tensor(0))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Results]:
    return lambda call: function(call.tensor(0), call.tensor(1))


for _name, _function in _UNARY.items():
    torch_op(_name, gradient=False)(_unary(_function))
for _name, _pair in _BINARY.items():
    torch_op(_name, gradient=False)(_binary(_pair))


@torch_op("is_inf", gradient=False)
def is_inf(call: Call) -> Results:
    """`torch.isposinf` and `torch.isneginf`, as asked."""
    x = call.tensor(0)
    negative = torch.isneginf(x) & call.attributes["detect_negative"]
    return negative | (torch.isposinf(x) & call.attributes["detect_positive"])
