"""Reductions, indices of extrema, running sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edgeir.ops.operands import integer_range
from edgeir.training.torch_ops.registry import Call, Results, reference, torch_op

Reduction = Callable[[Tensor, Sequence[int], bool], Tensor]


def _sum(x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    return torch.sum(x, list(axes), keepdims, dtype=x.dtype)


def _mean(x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    return torch.mean(x, list(axes), keepdims)


def _product(x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    for axis in reversed(axes):
        x = torch.prod(x, axis, keepdims, dtype=x.dtype)
    return x


def _maximum(x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    return torch.amax(x, list(axes), keepdims)


def _minimum(x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    return torch.amin(x, list(axes), keepdims)


def _reduce(function: Reduction) -> Callable[[Call], Results]:
    return lambda call: function(call.tensor(0), call.attributes["axes"], call.attributes["keepdims"])


for _name, _function in (("reduce_sum", _sum), ("reduce_prod", _product)):
    torch_op(_name)(_reduce(_function))


@torch_op("reduce_mean")
def reduce_mean(call: Call) -> Results:
    """`torch.mean` of floats; integers, whose mean is truncated, by the reference."""
    return _reduce(_mean)(call) if call.tensor(0).is_floating_point() else reference(call)


@torch_op("reduce_max", "reduce_min")
def reduce_extremum(call: Call) -> Results:
    """`torch.amax` or `torch.amin`; the neutral element where there is nothing to reduce."""
    x, axes, keepdims = call.tensor(0), call.attributes["axes"], call.attributes["keepdims"]
    greatest = call.node.op == "reduce_max"
    if all(x.shape[axis] for axis in axes):
        return (_maximum if greatest else _minimum)(x, axes, keepdims)
    dtype = call.type(0).dtype
    low, high = (
        (-math.inf, math.inf) if "float" in dtype else (False, True) if dtype == "bool" else integer_range(dtype)
    )
    shape = call.node.output.type.static_shape
    return torch.full(shape, low if greatest else high, dtype=x.dtype, device=x.device)


@torch_op("arg_max", "arg_min", gradient=False)
def arg_extremum(call: Call) -> Results:
    """`torch.argmax` or `torch.argmin`, on the reversed axis for the last one."""
    x, axis, last = call.tensor(0), call.attributes["axis"], call.attributes["select_last"]
    function = torch.argmax if call.node.op == "arg_max" else torch.argmin
    found = function(torch.flip(x, [axis]) if last else x, axis, call.attributes["keepdims"])
    return x.shape[axis] - 1 - found if last else found


def _cumulative(function: Callable[..., Tensor], start: int) -> Callable[[Call], Results]:
    def run(call: Call) -> Results:
        x, axis, reverse = call.tensor(0), call.attributes["axis"], call.attributes["reverse"]
        x = torch.flip(x, [axis]) if reverse else x
        if call.attributes["exclusive"] and x.shape[axis]:
            head = torch.full_like(x.narrow(axis, 0, 1), start)
            x = torch.cat([head, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        y = function(x, axis, dtype=x.dtype)
        return torch.flip(y, [axis]) if reverse else y

    return run


torch_op("cum_sum")(_cumulative(torch.cumsum, 0))
torch_op("cum_prod")(_cumulative(torch.cumprod, 1))
