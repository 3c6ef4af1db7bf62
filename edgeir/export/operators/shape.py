"""Movement of data, and dimensions as data."""

from __future__ import annotations

import numpy as np

from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter
from edgeir.ir import Dim
from edgeir.ops.shape import border_indices

_BEYOND = -(2**31)
"""A slice's end before the first element: whatever ONNX adds to a negative end, it stays negative."""


@exporter("reshape")
def reshape(node: ExportNode) -> str:
    """Reshape; a single symbolic dimension is left to ONNX to find."""
    shape = list(node.attribute("shape"))
    open_axes = [axis for axis, dim in enumerate(shape) if not isinstance(dim, int)]
    if len(open_axes) == 1 and 0 not in shape:
        shape[open_axes[0]] = -1
    return node.emit("Reshape", node.input(0), node.dims(shape), allowzero=1 if 0 in shape else None)


@exporter("expand")
def expand(node: ExportNode) -> str:
    """Expand."""
    return node.widened("Expand", [node.input(0), node.dims(node.attribute("shape"))], [0])


@exporter("tile")
def tile(node: ExportNode) -> str:
    """Tile."""
    return node.widened("Tile", [node.input(0), node.dims(node.attribute("repeats"))], [0])


@exporter("transpose")
def transpose(node: ExportNode) -> str:
    """Transpose; of a scalar nothing."""
    if not node.type().rank:
        return node.emit("Identity", node.input(0))
    return node.emit("Transpose", node.input(0), perm=node.attribute("perm"))


@exporter("concat")
def concat(node: ExportNode) -> str:
    """Concat."""
    inputs = node.inputs
    if len(inputs) == 1:
        return node.emit("Identity", inputs[0])
    return node.emit("Concat", *inputs, axis=node.attribute("axis"))


@exporter("slice")
def slice_(node: ExportNode) -> str:
    """Slice along the axes that it changes."""
    box = zip(
        node.type().shape, node.attribute("starts"), node.attribute("sizes"), node.attribute("steps"), strict=True
    )
    axes, starts, ends, steps = [], [], [], []
    for axis, (dim, start, size, step) in enumerate(box):
        if (start, step) == (0, 1) and size == dim:
            continue
        axes.append(axis)
        starts.append(start)
        ends.append(_end(start, size, step))
        steps.append(step)
    if not axes:
        return node.emit("Identity", node.input(0))
    end = node.dims(ends)
    if any(step < 0 and not isinstance(e, int) for step, e in zip(steps, ends, strict=True)):
        end = node.emit("Where", node.emit("Less", end, node.constant([0])), node.constant([_BEYOND]), end)
    step = node.constant(steps)
    return node.widened("Slice", [node.input(0), node.dims(starts), end, node.constant(axes), step], [0])


def _end(start: Dim, size: Dim, step: int) -> Dim:
    if size == 0:
        return start if step > 0 else start + 1
    end = start + size * step
    return _BEYOND if isinstance(end, int) and end < 0 else end


@exporter("pad")
def pad(node: ExportNode) -> str:
    """Pad; borders wider than the tensor, which few tool chains repeat rightly, by Gather."""
    padding, mode, rank = node.attribute("padding"), node.attribute("mode"), node.type().rank
    if not rank:
        return node.emit("Identity", node.input(0))
    if mode == "constant":
        value = node.input(1)
        if value and node.type(1).rank:
            value = node.emit("Reshape", value, node.constant(np.zeros(0)))
        return node.widened("Pad", [node.input(0), node.constant(padding), value], [0, 2])
    if mode == "edge":
        return node.widened("Pad", [node.input(0), node.constant(padding)], [0], mode=mode)
    y = node.input(0)
    for axis, (dim, begin, end) in enumerate(zip(node.type().shape, padding[:rank], padding[rank:], strict=True)):
        if not begin + end:
            continue
        if isinstance(dim, int):
            y = node.emit(
                "Gather", y, node.constant(border_indices(np.arange(-begin, dim + end), dim, mode)), axis=axis
            )
        else:
            amounts = [begin if i == axis else end if i == axis + rank else 0 for i in range(2 * rank)]
            y = node.emit("Pad", y, node.constant(amounts), mode=mode)
    return y if y != node.input(0) else node.emit("Identity", y)


@exporter("trilu")
def trilu(node: ExportNode) -> str:
    """Trilu."""
    operands = [node.input(0), node.constant(node.attribute("k"))]
    return node.widened("Trilu", operands, [0], upper=int(node.attribute("upper")))


@exporter("iota")
def iota(node: ExportNode) -> str:
    """A constant where the size is fixed, else Range."""
    size, dtype = node.attribute("size"), node.attribute("dtype")
    if isinstance(size, int):
        return node.constant(np.arange(size), dtype)
    limit = node.emit("Squeeze", node.dims([size]), node.constant([0]))
    return node.cast(node.emit("Range", node.constant(0), limit, node.constant(1)), "int64", dtype)


@exporter("dims")
def dims(node: ExportNode) -> str:
    """A constant, or computed from the shapes of inputs."""
    return node.dims(node.attribute("values"))
