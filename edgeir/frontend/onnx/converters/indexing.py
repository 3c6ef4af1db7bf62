"""Gathering and scattering by index."""

from __future__ import annotations

import numpy as np

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value


@converter("Gather")
def gather(node: ImportNode) -> Value:
    """Slices of x along an axis."""
    axis = node.axis(node.attribute("axis", 0), node.type(0).rank)
    return node.emit("gather", node.input(0), node.input(1), axis=axis)


@converter("GatherElements")
def gather_elements(node: ImportNode) -> Value:
    """Elements of x by their index along one axis."""
    axis = node.axis(node.attribute("axis", 0), node.type(0).rank)
    return node.emit("gather_elements", node.input(0), node.input(1), axis=axis)


@converter("GatherND")
def gather_nd(node: ImportNode) -> Value:
    """Slices of x by index tuples."""
    return node.emit("gather_nd", node.input(0), node.input(1), batch_dims=node.attribute("batch_dims", 0))


@converter("Scatter", "ScatterElements")
def scatter_elements(node: ImportNode) -> Value:
    """x with elements replaced or combined by index along one axis."""
    return node.emit(
        "scatter_elements",
        node.input(0),
        node.input(1),
        node.input(2),
        axis=node.axis(node.attribute("axis", 0), node.type(0).rank),
        reduction=node.attribute("reduction", "none"),
    )


@converter("ScatterND")
def scatter_nd(node: ImportNode) -> Value:
    """x with slices replaced or combined by index tuples."""
    reduction = node.attribute("reduction", "none")
    return node.emit("scatter_nd", node.input(0), node.input(1), node.input(2), reduction=reduction)


@converter("TopK")
def top_k(node: ImportNode) -> list[Value]:
    """The k greatest or least elements along an axis, and their indices."""
    if node.opset < 10:
        k = node.attribute("k")
    else:
        dims = node.dims(1)
        if len(dims) != 1:
            node.unsupported(f"k must be one number, got {list(dims)}")
        k = dims[0]
    return node.emit_all(
        "top_k",
        node.input(0),
        k=k,
        axis=node.axis(node.attribute("axis", -1), node.type(0).rank),
        largest=bool(node.attribute("largest", 1)),
        sorted=bool(node.attribute("sorted", 1)),
    )


@converter("OneHot")
def one_hot(node: ImportNode) -> Value:
    """The on value at the index along a new axis, the off value elsewhere; indices count from either end."""
    indices, values = node.cast(node.input(0), "int64"), node.input(2)
    depth = node.known(node.input(1))
    if depth is None and node.input(1).is_constant:
        depth = node.constant(1).astype(int).astype(object)
    if depth is None or depth.size != 1:
        node.unsupported("the depth must be known at import")
    size = depth.reshape(-1).tolist()[0]
    rank = indices.type.rank
    axis = node.axis(node.attribute("axis", -1), rank + 1)
    count = node.dims_value([size], ())
    negative = node.emit("less", indices, node.scalar(0, indices))
    wrapped = node.emit("where", negative, node.emit("add", indices, count), indices)
    column = node.reshape(wrapped, (*wrapped.type.shape[:axis], 1, *wrapped.type.shape[axis:]))
    positions = node.emit("iota", size=size, dtype="int64")
    positions = node.reshape(positions, [size if i == axis else 1 for i in range(rank + 1)])
    off, on = (node.reshape(node.take(values, 0, index, 1), ()) for index in range(2))
    return node.emit("where", node.emit("equal", column, positions), on, off)


@converter("ReverseSequence")
def reverse_sequence(node: ImportNode) -> Value:
    """The first sequence_lens[b] steps of every batch entry b in reverse."""
    x, lengths = node.input(0), node.cast(node.input(1), "int64")
    rank = x.type.rank
    time = node.axis(node.attribute("time_axis", 0), rank)
    batch = node.axis(node.attribute("batch_axis", 1), rank)
    if {time, batch} != {0, 1}:
        node.unsupported(f"axes {time} and {batch}: they must be 0 and 1")
    steps = node.emit("iota", size=x.type.shape[time], dtype="int64")
    steps = node.reshape(steps, [x.type.shape[time] if i == time else 1 for i in range(rank)])
    lengths = node.reshape(lengths, [x.type.shape[batch] if i == batch else 1 for i in range(rank)])
    last = node.emit("sub", lengths, node.scalar(1, lengths))
    index = node.emit("where", node.emit("less", steps, lengths), node.emit("sub", last, steps), steps)
    return node.emit("gather_elements", x, node.expand(index, x.type.shape), axis=time)


@converter("Compress")
def compress(node: ImportNode) -> Value:
    """Slices of x where a constant condition holds."""
    x, axis = node.input(0), node.attribute("axis")
    kept = node.constant_value(np.flatnonzero(node.constant(1)).astype(np.int64))
    if axis is None:
        return node.emit("gather", node.reshape(x, (x.type.elements,)), kept, axis=0)
    return node.emit("gather", x, kept, axis=node.axis(axis, x.type.rank))


@converter("NonZero")
def non_zero(node: ImportNode) -> Value:
    """Indices of the elements of a constant that are not 0, one row per axis."""
    return node.constant_value(np.array(np.nonzero(node.constant(0)), dtype=np.int64))


@converter("TensorScatter")
def tensor_scatter(node: ImportNode) -> Value:
    """A cache (batch first) with `update` written along an axis, from write_indices[b] on, wrapping if circular."""
    past, update = node.input(0), node.input(1)
    rank = past.type.rank
    axis = node.axis(node.attribute("axis", -2), rank)
    if axis == 0:
        node.unsupported("the axis must not be that of the batch")
    count = update.type.shape[axis]
    steps = node.emit("iota", size=count, dtype="int64")
    positions = node.reshape(steps, [count if i == axis else 1 for i in range(rank)])
    if node.optional(2) is not None:
        starts = node.cast(node.input(2), "int64")
        batch = past.type.shape[0]
        positions = node.emit("add", positions, node.reshape(starts, [batch if i == 0 else 1 for i in range(rank)]))
    if node.attribute("mode", "linear") == "circular":
        positions = node.emit("mod", positions, node.dims_value([past.type.shape[axis]], ()))
    return node.emit("scatter_elements", past, node.expand(positions, update.type.shape), update, axis=axis)


@converter("Unique")
def unique(node: ImportNode) -> list[Value]:
    """The distinct elements (or slices) of a constant: values, first positions, inverse, counts."""
    x, axis = node.constant(0), node.attribute("axis")
    if axis is not None:
        axis = node.axis(axis, x.ndim)
    values, first, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis)
    if not node.attribute("sorted", 1):
        order = np.argsort(first)
        values, first, counts = np.take(values, order, axis=axis or 0), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    vectors = (first, inverse.reshape(-1), counts)
    return [node.constant_value(values), *(node.constant_value(v.astype(np.int64)) for v in vectors)]
