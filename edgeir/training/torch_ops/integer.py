"""Convolution and product of quantized integers, and tables."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeir.ops.operands import integer_range
from edgeir.training.torch_ops.convolution import convolve
from edgeir.training.torch_ops.registry import Call, Results, torch_op


def _difference(x: Tensor, zero: Tensor | None, trailing: int = 0) -> Tensor:
    """x − zero in float64, which holds every sum exactly."""
    if zero is None:
        return x.double()
    return x.double() - zero.double().reshape((*zero.shape, *(1,) * trailing))


def _wrap(total: Tensor) -> Tensor:
    return total.long().to(torch.int32)


@torch_op("conv_integer", gradient=False)
def conv_integer(call: Call) -> Results:
    """The convolution of the differences in float64, wrapped to 32 bits."""
    x, w, b = call.tensor(0), call.tensor(1), call.optional(2)
    left, right = _difference(x, call.optional(3)), _difference(w, call.optional(4), w.ndim - 1)
    a = call.attributes
    bias = None if b is None else b.double()
    return _wrap(convolve(left, right, bias, a["strides"], a["padding"], a["dilations"], a["groups"]))


@torch_op("matmul_integer", gradient=False)
def matmul_integer(call: Call) -> Results:
    """The product of the differences in float64, wrapped to 32 bits."""
    zero = call.optional(3)
    # Columns are rows where b is transposed.
    trailing = int(call.attributes["transpose_b"] and zero is not None and zero.ndim == 1)
    left, right = _difference(call.tensor(0), call.optional(2)), _difference(call.tensor(1), zero, trailing)
    left = left.mT if call.attributes["transpose_a"] else left
    right = right.mT if call.attributes["transpose_b"] else right
    return _wrap(torch.matmul(left, right))


@torch_op("lookup")
def lookup(call: Call) -> Results:
    """Elements of the table, which gradients reach."""
    x, table = call.tensor(0), call.tensor(1)
    return table[x.long() - integer_range(call.type(0).dtype)[0]]
