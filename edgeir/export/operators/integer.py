"""Sums of products of quantized integers, tables, logarithmic codes."""

from __future__ import annotations

import numpy as np

from edgeir.export.element_types import element_code
from edgeir.export.export_node import ExportNode
from edgeir.export.operators.convolution import window
from edgeir.export.registry import exporter
from edgeir.ops.integer import ACTIVATIONS
from edgeir.ops.logarithmic import code_values


def _bytes(node: ExportNode, position: int) -> str:
    """An operand of 8 bits; 4-bit ones are widened. "" where it is absent."""
    if not node.has(position):
        return ""
    dtype = node.type(position).dtype
    return node.cast(node.input(position), dtype, dtype if dtype in ACTIVATIONS else _WIDER[dtype])


_WIDER = {"int4": "int8", "uint4": "uint8"}


def _difference(node: ExportNode, position: int, zero: int, to: str, trailing: int = 0) -> str:
    """An operand minus its zero point in a wide element type; a vector of zero points has `trailing` axes after it."""
    value = node.cast(node.input(position), node.type(position).dtype, to)
    if not node.has(zero):
        return value
    point = node.cast(node.input(zero), node.type(zero).dtype, to)
    if node.type(zero).rank and trailing:
        point = node.emit("Reshape", point, node.constant([-1, *(1,) * trailing]))
    return node.emit("Sub", value, point)


@exporter("conv_integer")
def conv_integer(node: ExportNode) -> str:
    """ConvInteger and Add; with a zero point per output channel, a convolution of float64, which is exact."""
    rank = node.type().rank
    if node.has(4) and node.type(4).rank:
        operands = [_difference(node, 0, 3, "float64"), _difference(node, 1, 4, "float64", rank - 1)]
        wide = node.emit("Cast", node.emit("Conv", *operands, **window(node)), to=element_code("int64"))
        total = node.cast(wide, "int64", "int32")
    else:
        total = node.emit("ConvInteger", *(_bytes(node, position) for position in (0, 1, 3, 4)), **window(node))
    if not node.has(2):
        return total
    column = node.emit("Reshape", node.input(2), node.constant([-1, *(1,) * (rank - 2)]))
    return node.emit("Add", total, column)


@exporter("matmul_integer")
def matmul_integer(node: ExportNode) -> str:
    """MatMulInteger; with zero points per column of several matrices, MatMul of int32."""
    flags = [node.attribute("transpose_a"), node.attribute("transpose_b")]
    several = node.has(3) and node.type(3).rank and node.type(1).rank > 2
    if several:
        operands = [_difference(node, 0, 2, "int32"), _difference(node, 1, 3, "int32", int(flags[1]))]
    else:
        operands = [_bytes(node, 0), _bytes(node, 1)]
    for position, flag in enumerate(flags):
        if flag:
            rank = node.type(position).rank
            perm = [*range(rank - 2), rank - 1, rank - 2]
            operands[position] = node.emit("Transpose", operands[position], perm=perm)
    if several:
        return node.emit("MatMul", *operands)
    return node.emit("MatMulInteger", *operands, _bytes(node, 2), _bytes(node, 3))


@exporter("lookup")
def lookup(node: ExportNode) -> str:
    """Gather from the table."""
    dtype = node.type().dtype
    index = node.cast(node.input(0), dtype, "int32")
    if not dtype.startswith("u"):
        index = node.emit("Add", index, node.constant(node.type(1).static_shape[0] // 2, "int32"))
    return node.emit("Gather", node.input(1), index, axis=0)


@exporter("log_quantize")
def log_quantize(node: ExportNode) -> str:
    """The number of limits 2^(e − ½) that |x| / scale exceeds, and the sign."""
    bits = node.attribute("bits")
    q = 1 << (bits - 2)
    x, scale = (node.cast(node.input(position), node.type(position).dtype, "float64") for position in (0, 1))
    ratio = node.emit("Unsqueeze", node.emit("Div", node.emit("Abs", x), scale), node.constant([-1]))
    limits = node.constant(np.exp2(np.arange(1 - q, q) - 0.5), "float64")
    above = node.cast(node.emit("Greater", ratio, limits), "bool", "int64")
    index = node.emit("ReduceSum", above, node.constant([-1]), keepdims=0)
    negative = node.emit("Less", x, node.constant(0.0, "float64"))
    signed = node.emit("And", negative, node.emit("Greater", index, node.constant(0)))
    sign = node.emit("Where", signed, node.constant(1 << (bits - 1)), node.constant(0))
    return node.cast(node.emit("Add", index, sign), "int64", node.output_type.dtype)


@exporter("log_dequantize")
def log_dequantize(node: ExportNode) -> str:
    """The values of all codes as a table, times the scale."""
    entries = 16 if node.type().dtype == "uint4" else 256
    table = node.constant(np.resize(code_values(node.attribute("bits")), entries), "float64")
    value = node.emit("Gather", table, node.cast(node.input(0), node.type().dtype, "int32"), axis=0)
    scale = node.type(1).dtype
    product = node.emit("Mul", value, node.cast(node.input(1), scale, "float64"))
    return node.cast(product, "float64", scale)
