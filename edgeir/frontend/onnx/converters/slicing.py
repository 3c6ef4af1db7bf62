"""Boxes out of tensors: Slice, Split."""

from __future__ import annotations

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.known_values import decide
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Dim, Value
from edgeir.ir.dims import ceil_divide

_FAR = 2**31 - 1
"""Exporters write INT_MAX or more for "to the end"."""


@converter("Slice")
def slice_(node: ImportNode) -> Value:
    """x[starts:ends:steps] along some axes."""
    x = node.input(0)
    if node.opset < 10:
        starts, ends = tuple(node.attribute("starts")), tuple(node.attribute("ends"))
        axes, steps = node.attribute("axes"), None
    else:
        starts, ends = node.dims(1), node.dims(2)
        axes, steps = node.optional_integers(3), node.optional_integers(4)
    axes = tuple(range(len(starts))) if axes is None else tuple(axes)
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        node.unsupported("starts, ends, axes and steps differ in length")
    box: dict[int, tuple[Dim, Dim, int]] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = node.axis(axis, x.type.rank)
        if axis in box:
            node.unsupported(f"axis {axis} twice")
        if step == 0:
            node.unsupported("a step of 0")
        box[axis] = resolve_slice(node, x.type.shape[axis], start, end, step)
    whole = [box.get(axis, (0, dim, 1)) for axis, dim in enumerate(x.type.shape)]
    if all(part == (0, dim, 1) for part, dim in zip(whole, x.type.shape, strict=True)):
        return x
    return node.emit("slice", x, starts=[p[0] for p in whole], sizes=[p[1] for p in whole], steps=[p[2] for p in whole])


def resolve_slice(node: ImportNode, dim: Dim, start: Dim, end: Dim, step: int) -> tuple[Dim, Dim, int]:
    """Start, size and step of x[start:end:step] on an axis, with numpy's clamping."""
    if isinstance(dim, int) and isinstance(start, int) and isinstance(end, int):
        positions = range(*slice(start, end, step).indices(dim))
        return (positions.start if len(positions) else 0, len(positions), step)
    if step > 0:
        first, last = _clamp(node, start, dim, 0, dim), _clamp(node, end, dim, 0, dim)
        size = ceil_divide(last - first, step)
    else:
        first, last = _clamp(node, start, dim, -1, dim - 1), _clamp(node, end, dim, -1, dim - 1)
        size = ceil_divide(first - last, -step)
    if isinstance(size, int) and size <= 0:
        return (0, 0, step)
    return (first, size, step)


def _clamp(node: ImportNode, position: Dim, dim: Dim, low: Dim, high: Dim) -> Dim:
    """A position in Python's sense on an axis of symbolic size, within low … high."""
    if isinstance(position, int):
        if position >= _FAR:
            return high
        if position <= -_FAR:
            return low
    negative = decide(position, 0)
    if negative is not None and negative < 0:
        # Whether it lies within the axis is checked once sizes are fixed.
        position = position + dim
    above = decide(position, high)
    if above is not None:
        return high if above >= 0 else position
    # A constant or other expression is taken to lie within the axis; slices are checked once sizes are fixed.
    return position


@converter("Split")
def split(node: ImportNode) -> list[Value]:
    """Consecutive parts along an axis."""
    x = node.input(0)
    axis = node.axis(node.attribute("axis", 0), x.type.rank)
    dim, count = x.type.shape[axis], len(node.proto.output)
    sizes = node.attribute("split")
    if node.opset >= 13 and node.optional(1) is not None:
        sizes = node.dims(1)
    if sizes is None:
        part = ceil_divide(dim, count)
        sizes = [part] * (count - 1) + [dim - part * (count - 1)]
    if len(sizes) != count:
        node.unsupported(f"{len(sizes)} sizes for {count} outputs")
    total: Dim = 0
    parts = []
    for size in sizes:
        parts.append(node.take(x, axis, total, size))
        total = total + size
    if total != dim:
        node.unsupported(f"sizes {list(sizes)} do not add up to {dim}")
    return parts
