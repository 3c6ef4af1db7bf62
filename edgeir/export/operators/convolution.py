"""Convolution, transposed and deformable convolution."""

from __future__ import annotations

from typing import Any

from edgeir.export.element_types import element_code
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter
from edgeir.ir.dtype import FLOATS


def window(node: ExportNode) -> dict[str, Any]:
    """The attributes of an ONNX convolution."""
    return {
        "strides": node.attribute("strides"),
        "pads": node.attribute("padding"),
        "dilations": node.attribute("dilations"),
        "group": node.attribute("groups"),
        "kernel_shape": node.type(1).static_shape[2:],
    }


@exporter("conv")
def conv(node: ExportNode) -> str:
    """Conv; of 8-bit integers ConvInteger, of wider ones a convolution of float64."""
    dtype = node.type().dtype
    if dtype in FLOATS:
        return node.widened("Conv", node.inputs, [0, 1, 2], **window(node))
    if dtype in ("int8", "uint8"):
        total = node.emit("ConvInteger", node.input(0), node.input(1), **window(node))
        if node.has(2):
            rank = node.type().rank
            bias = node.cast(node.input(2), dtype, "int32")
            column = node.emit("Reshape", bias, node.constant([-1, *(1,) * (rank - 2)]))
            total = node.emit("Add", total, column)
        return node.cast(total, "int32", dtype)
    return _in_float64(node, "Conv", window(node))


@exporter("conv_transpose")
def conv_transpose(node: ExportNode) -> str:
    """ConvTranspose; of integers in float64."""
    attributes = window(node) | {"output_padding": node.attribute("output_padding")}
    if node.type().dtype not in FLOATS:
        return _in_float64(node, "ConvTranspose", attributes)
    return node.widened("ConvTranspose", node.inputs, [0, 1, 2], **attributes)


def _in_float64(node: ExportNode, op_type: str, attributes: dict[str, Any]) -> str:
    """Exact for sums below 2**53."""
    code = element_code("float64")
    operands = [node.emit("Cast", name, to=code) if name else "" for name in node.inputs]
    # Through int64, so that what is too large for the type wraps.
    total = node.emit("Cast", node.emit(op_type, *operands, **attributes), to=element_code("int64"))
    return node.cast(total, "int64", node.type().dtype)


@exporter("deform_conv")
def deform_conv(node: ExportNode) -> str:
    """DeformConv."""
    attributes = window(node) | {"offset_group": node.attribute("offset_groups")}
    return node.widened("DeformConv", node.inputs, [0, 1, 2, 3, 4], **attributes)
