"""Gathering and scattering by index, and the largest elements."""

from __future__ import annotations

from edgeir.export.element_types import allowed_types, carrier
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter


def _indices(node: ExportNode, op_type: str) -> str:
    dtype = node.type(1).dtype
    return node.cast(node.input(1), dtype, dtype if dtype in allowed_types(op_type, 1) else "int64")


@exporter("gather", "gather_elements")
def gather(node: ExportNode) -> str:
    """Gather or GatherElements."""
    op_type = "Gather" if node.op == "gather" else "GatherElements"
    operands = [node.input(0), _indices(node, op_type)]
    return node.widened(op_type, operands, [0], axis=node.attribute("axis"))


@exporter("gather_nd")
def gather_nd(node: ExportNode) -> str:
    """GatherND."""
    operands = [node.input(0), _indices(node, "GatherND")]
    return node.widened("GatherND", operands, [0], batch_dims=node.attribute("batch_dims") or None)


@exporter("scatter_elements", "scatter_nd")
def scatter(node: ExportNode) -> str:
    """ScatterElements or ScatterND."""
    op_type = "ScatterElements" if node.op == "scatter_elements" else "ScatterND"
    axis = node.attribute("axis") if node.op == "scatter_elements" else None
    reduction = node.attribute("reduction")
    operands = [node.input(0), _indices(node, op_type), node.input(2)]
    return node.widened(op_type, operands, [0, 2], axis=axis, reduction=None if reduction == "none" else reduction)


@exporter("top_k")
def top_k(node: ExportNode) -> list[str]:
    """TopK."""
    dtype = node.type().dtype
    wide = carrier("TopK", dtype)
    values, indices = node.emit_all(
        "TopK",
        [node.cast(node.input(0), dtype, wide), node.dims([node.attribute("k")])],
        2,
        axis=node.attribute("axis"),
        largest=int(node.attribute("largest")),
        sorted=int(node.attribute("sorted")),
    )
    return [node.cast(values, wide, dtype), indices]
