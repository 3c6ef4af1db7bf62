"""Reductions over axes, indices of extrema, and running sums and products."""

from __future__ import annotations

from edgeir.export.element_types import carrier
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter

_REDUCTIONS = {
    "reduce_max": "ReduceMax",
    "reduce_mean": "ReduceMean",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
}


@exporter(*_REDUCTIONS)
def reduce(node: ExportNode) -> str:
    """The reduction of the same meaning, with the axes as an operand."""
    axes = node.constant(node.attribute("axes"))
    keepdims = None if node.attribute("keepdims") else 0
    return node.widened(_REDUCTIONS[node.op], [node.input(0), axes], [0], keepdims=keepdims)


@exporter("arg_max", "arg_min")
def arg_extremum(node: ExportNode) -> str:
    """ArgMax or ArgMin."""
    op_type, dtype = ("ArgMax" if node.op == "arg_max" else "ArgMin"), node.type().dtype
    x = node.cast(node.input(0), dtype, carrier(op_type, dtype))
    return node.emit(
        op_type,
        x,
        axis=node.attribute("axis"),
        keepdims=None if node.attribute("keepdims") else 0,
        select_last_index=int(node.attribute("select_last")) or None,
    )


@exporter("cum_sum")
def cum_sum(node: ExportNode) -> str:
    """CumSum."""
    flags = {name: int(node.attribute(name)) or None for name in ("exclusive", "reverse")}
    return node.widened("CumSum", [node.input(0), node.constant(node.attribute("axis"))], [0], **flags)


@exporter("cum_prod")
def cum_prod(node: ExportNode) -> str:
    """A prefix product by doubling: after step k, an element holds the product of up to 2ᵏ elements before it."""
    axis, reverse = node.attribute("axis"), node.attribute("reverse")
    dtype, rank = node.type().dtype, node.type().rank
    size = node.type().shape[axis]
    if not isinstance(size, int):
        raise node.unsupported("a running product needs a fixed size", hint="fix symbolic dimensions with shapes=…")
    wide = carrier("Mul", dtype)
    one = node.constant(1, wide)

    def delayed(name: str, distance: int) -> str:
        """Element i − distance (i + distance in reverse), 1 beyond the end."""
        pads, start = [0] * 2 * rank, 0 if not reverse else distance
        pads[axis + rank if reverse else axis] = distance
        padded = node.emit("Pad", name, node.constant(pads), one)
        return node.emit("Slice", padded, *(node.constant([n]) for n in (start, start + size, axis)))

    y = node.cast(node.input(0), dtype, wide)
    if node.attribute("exclusive"):
        y = delayed(y, 1)
    distance = 1
    while distance < size:
        y = node.emit("Mul", y, delayed(y, distance))
        distance *= 2
    return node.cast(y, wide, dtype)
