"""Operators that change shape or order."""

from __future__ import annotations

import numpy as np
import torch

from edgeir.ops.shape import border_indices
from edgeir.training.torch_ops.convolution import pad_ends
from edgeir.training.torch_ops.registry import Call, Results, torch_op


@torch_op("reshape", moves=True)
def reshape(call: Call) -> Results:
    """`Tensor.reshape`."""
    return call.tensor(0).reshape(call.attributes["shape"])


@torch_op("expand", moves=True)
def expand(call: Call) -> Results:
    """`Tensor.expand`."""
    return call.tensor(0).expand(call.attributes["shape"])


@torch_op("tile", moves=True)
def tile(call: Call) -> Results:
    """`Tensor.repeat`."""
    x = call.tensor(0)
    return x.repeat(call.attributes["repeats"]) if x.ndim else x


@torch_op("transpose", moves=True)
def transpose(call: Call) -> Results:
    """`Tensor.permute`."""
    return call.tensor(0).permute(call.attributes["perm"])


@torch_op("slice", moves=True)
def slice_box(call: Call) -> Results:
    """A strided slice per axis, flipped where the step is negative."""
    x = call.tensor(0)
    flipped = []
    for axis, (start, size, step) in enumerate(
        zip(call.attributes["starts"], call.attributes["sizes"], call.attributes["steps"], strict=True)
    ):
        if size == 0:
            x = x.narrow(axis, 0, 0)
            continue
        last = start + (size - 1) * step
        index = [slice(None)] * x.ndim
        index[axis] = slice(min(start, last), max(start, last) + 1, abs(step))
        x = x[tuple(index)]
        if step < 0:
            flipped.append(axis)
    return torch.flip(x, flipped) if flipped else x


@torch_op("concat", moves=True)
def concat(call: Call) -> Results:
    """`torch.cat`."""
    return torch.cat(call.tensors(), call.attributes["axis"])


@torch_op("pad", moves=True)
def pad(call: Call) -> Results:
    """torch's constant padding, or one vector of indices per axis."""
    x, value, padding = call.tensor(0), call.optional(1), call.attributes["padding"]
    begins, ends = padding[: x.ndim], padding[x.ndim :]
    if call.attributes["mode"] == "constant":
        if value is None or not any(padding):
            return pad_ends(x, begins, ends)
        inside = pad_ends(torch.ones_like(x, dtype=torch.bool), begins, ends)
        return torch.where(inside, pad_ends(x, begins, ends), value.reshape(()))
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if begin + end:
            size = x.shape[axis]
            indices = border_indices(np.arange(-begin, size + end), size, call.attributes["mode"])
            x = x.index_select(axis, torch.from_numpy(indices).to(x.device))
    return x


@torch_op("trilu", moves=True)
def trilu(call: Call) -> Results:
    """`torch.triu` or `torch.tril`."""
    return (torch.triu if call.attributes["upper"] else torch.tril)(call.tensor(0), call.attributes["k"])


@torch_op("iota", gradient=False)
def iota(call: Call) -> Results:
    """`torch.arange`."""
    dtype = call.dtype(call.attributes["dtype"])
    return torch.arange(call.attributes["size"], device=call.state.device).to(dtype)


@torch_op("dims", gradient=False)
def dims(call: Call) -> Results:
    """The values."""
    return torch.tensor(call.attributes["values"], dtype=torch.int64, device=call.state.device)


@torch_op("layout_cast", moves=True)
def layout_cast(call: Call) -> Results:
    """The tensor: logically the identity."""
    return call.tensor(0)
