"""Changes of element type."""

from __future__ import annotations

from edgeir.export.element_types import element_code
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter
from edgeir.ir.dtype import INTEGERS


@exporter("cast")
def cast(node: ExportNode) -> str:
    """Cast; `saturate` concerns float8 only."""
    target = node.attribute("dtype")
    saturate = None if node.attribute("saturate") or not target.startswith("float8") else 0
    return node.emit("Cast", node.input(0), to=element_code(target), saturate=saturate)


@exporter("bit_cast")
def bit_cast(node: ExportNode) -> str:
    """Cast between integers of one width, which keeps the bits; the operator set has no other bit cast."""
    source, target = node.type().dtype, node.attribute("dtype")
    if source != target and not {source, target} <= INTEGERS:
        raise node.unsupported(f"no operator reads the bits of {source} as {target}")
    return node.emit("Cast", node.input(0), to=element_code(target))
