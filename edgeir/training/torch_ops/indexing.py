"""Operators that read or write elements at computed positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from edgeir.errors import EdgeIRError
from edgeir.training.torch_ops.registry import Call, Results, reference, torch_op

_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}


def _positions(op: str, indices: Tensor, size: int) -> Tensor:
    """Indices in [−size, size) as int64 in [0, size)."""
    positions = indices.long()
    # On a GPU the check would wait for the device; its kernels assert the range themselves.
    if positions.device.type == "cpu" and positions.numel():
        low, high = (int(bound) for bound in torch.aminmax(positions))
        if low < -size or high >= size:
            raise EdgeIRError(f"{op}: index out of range", expected=f"{-size} ≤ index < {size}", got=f"{low} to {high}")
    return torch.where(positions < 0, positions + size, positions)


def _flat_positions(op: str, indices: Tensor, shape: Sequence[int]) -> Tensor:
    """Index tuples along the last axis as positions in the row-major order of `shape`."""
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
    for axis, size in enumerate(shape):
        flat = flat * size + _positions(op, indices[..., axis], size)
    return flat


def _scatter(x: Tensor, axis: int, positions: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return x.scatter(axis, positions, updates)
    if reduction == "add":
        return x.scatter_add(axis, positions, updates)
    return x.scatter_reduce(axis, positions, updates, _REDUCTIONS[reduction])


@torch_op("gather", moves=True, data=(0,))
def gather(call: Call) -> Results:
    """`Tensor.index_select`."""
    x, indices, axis = call.tensor(0), call.tensor(1), call.attributes["axis"]
    positions = _positions("gather", indices, x.shape[axis])
    y = x.index_select(axis, positions.reshape(-1))
    return y.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@torch_op("gather_elements", moves=True, data=(0,))
def gather_elements(call: Call) -> Results:
    """`torch.gather`."""
    x, axis = call.tensor(0), call.attributes["axis"]
    return torch.gather(x, axis, _positions("gather_elements", call.tensor(1), x.shape[axis]))


@torch_op("gather_nd", moves=True, data=(0,))
def gather_nd(call: Call) -> Results:
    """A selection of rows, after the batch axes and the indexed ones are made one."""
    x, indices, batch = call.tensor(0), call.tensor(1), call.attributes["batch_dims"]
    depth = indices.shape[-1]
    flat = _flat_positions("gather_nd", indices, x.shape[batch : batch + depth])
    # Row of element (b, …): the batch's number times the rows of one batch, plus the position in it.
    batches, rows = math.prod(x.shape[:batch]), math.prod(x.shape[batch : batch + depth])
    start = torch.arange(batches, device=x.device).reshape((*x.shape[:batch], *(1,) * (flat.ndim - batch))) * rows
    table = x.reshape(batches * rows, -1) if x.numel() else x.reshape(batches * rows, 0)
    picked = table.index_select(0, (flat + start).reshape(-1))
    return picked.reshape((*indices.shape[:-1], *x.shape[batch + depth :]))


@torch_op("scatter_elements", moves=True, data=(0, 2))
def scatter_elements(call: Call) -> Results:
    """`torch.scatter`, `scatter_add` or `scatter_reduce`."""
    x, axis, reduction = call.tensor(0), call.attributes["axis"], call.attributes["reduction"]
    if not x.is_floating_point() and reduction != "none":
        return reference(call)
    positions = _positions("scatter_elements", call.tensor(1), x.shape[axis])
    return _scatter(x, axis, positions, call.tensor(2), reduction)


@torch_op("scatter_nd", moves=True, data=(0, 2))
def scatter_nd(call: Call) -> Results:
    """The same along rows, after the indexed axes are made one."""
    x, indices, updates = call.tensor(0), call.tensor(1), call.tensor(2)
    reduction, depth = call.attributes["reduction"], indices.shape[-1]
    if not x.is_floating_point() and reduction != "none":
        return reference(call)
    if not x.numel():
        return x
    table = x.reshape(math.prod(x.shape[:depth]), -1)
    flat = _flat_positions("scatter_nd", indices, x.shape[:depth]).reshape(-1, 1)
    changes = updates.reshape(flat.shape[0], table.shape[1])
    return _scatter(table, 0, flat.expand_as(changes), changes, reduction).reshape(x.shape)


@torch_op("top_k")
def top_k(call: Call) -> Results:
    """A stable sort, of which the first k are taken."""
    x, axis, k = call.tensor(0), call.attributes["axis"], call.attributes["k"]
    values, order = torch.sort(x, dim=axis, descending=call.attributes["largest"], stable=True)
    return values.narrow(axis, 0, k), order.narrow(axis, 0, k)
