"""Conversions of element types."""

from __future__ import annotations

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.protos import element_type
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value


@converter("Cast", "CastLike")
def cast(node: ImportNode) -> Value:
    """Conversion to a type, or to that of the second operand."""
    x = node.input(0)
    dtype = element_type(node.attribute("to")) if node.op_type == "Cast" else node.type(1).dtype
    if node.attribute("round_mode", "up") != "up":
        node.unsupported(f"round_mode {node.attribute('round_mode')!r}")
    if dtype == x.type.dtype:
        return x
    return node.emit("cast", x, dtype=dtype, saturate=bool(node.attribute("saturate", 1)))


@converter("BitCast")
def bit_cast(node: ImportNode) -> Value:
    """The same bits as another type."""
    dtype = element_type(node.attribute("to"))
    return node.input(0) if dtype == node.type(0).dtype else node.emit("bit_cast", node.input(0), dtype=dtype)
