"""Reads at computed positions. An index that is out of range reads the nearest element instead of foreign memory."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, constant, dtype_of, select
from edgeir.lowering.compute.registry import Call, compute


def position_of(index: Expression, size: int) -> Expression:
    """An index in [−size, size) as a position in [0, size); beyond, the nearest position."""
    dtype = dtype_of(index)
    low, high = constant(0, dtype), constant(max(0, size - 1), dtype)
    index = select(index < low, index + constant(size, dtype), index)
    index = tirx.max(tirx.min(index, high), low)
    return index.astype("int32") if size < 2**31 else index.astype("int64")


@compute("gather")
def gather(call: Call) -> te.Tensor:
    """y[…, i, …] = x[…, indices[i], …]."""
    x, indices, axis = call.tensor(0), call.tensor(1), int(call.attributes["axis"])
    size, rank = call.shape(0)[axis], len(call.shape(1))

    def body(*index: Any) -> Expression:
        found = position_of(indices(*index[axis : axis + rank]), size)
        return x(*index[:axis], found, *index[axis + rank :])

    return te.compute(call.output_shape, body, name="gather")


@compute("gather_elements")
def gather_elements(call: Call) -> te.Tensor:
    """y[i, j] = x[indices[i, j], j] for axis 0."""
    x, indices, axis = call.tensor(0), call.tensor(1), int(call.attributes["axis"])
    size = call.shape(0)[axis]

    def body(*index: Any) -> Expression:
        return x(*index[:axis], position_of(indices(*index), size), *index[axis + 1 :])

    return te.compute(call.output_shape, body, name="gather_elements")


@compute("gather_nd")
def gather_nd(call: Call) -> te.Tensor:
    """Slices of x at index tuples; leading batch axes go in step."""
    x, indices, batch = call.tensor(0), call.tensor(1), int(call.attributes["batch_dims"])
    shape, depth, lead = call.shape(0), call.shape(1)[-1], len(call.shape(1)) - 1

    def body(*index: Any) -> Expression:
        found = [position_of(indices(*index[:lead], tirx.const(i, "int32")), shape[batch + i]) for i in range(depth)]
        return x(*index[:batch], *found, *index[lead:])

    return te.compute(call.output_shape, body, name="gather_nd")
