"""Affine quantization: QuantizeLinear and DequantizeLinear, per tensor or per axis, else arithmetic."""

from __future__ import annotations

import numpy as np

from edgeir.export.element_types import allowed_types, element_code
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter
from edgeir.ir import Value
from edgeir.ir.dtype import FLOATS
from edgeir.ops.operands import integer_range


def _axis(node: ExportNode) -> int | None:
    """The axis of x along which scale or zero point differ: −1 per tensor, None where there are several."""
    rank, axes = node.type(0).rank, set()
    for position in (1, 2):
        if node.has(position):
            shape = node.type(position).shape
            axes |= {axis + rank - len(shape) for axis, dim in enumerate(shape) if dim != 1}
    return -1 if not axes else axes.pop() if len(axes) == 1 else None


def _parameter(node: ExportNode, position: int, axis: int) -> str:
    """A scale or zero point as a scalar, or as a vector along `axis`."""
    if not node.has(position):
        return ""
    value = node.value(position)
    if axis < 0:
        return _shaped(node, value, position, ())
    size = node.type(0).shape[axis]
    rank = value.type.rank
    from_end = rank - (node.type(0).rank - axis)
    if from_end >= 0 and value.type.shape[from_end] != 1:
        return _shaped(node, value, position, (-1,))
    if value.is_constant and isinstance(size, int):
        return node.writer.constant(np.broadcast_to(value.data.reshape(-1), (size,)), value.name)
    return node.emit("Expand", _shaped(node, value, position, (1,)), node.dims([size]))


def _shaped(node: ExportNode, value: Value, position: int, shape: tuple[int, ...]) -> str:
    if value.is_constant:
        return node.writer.constant(value.data.reshape(shape), value.name)
    if value.type.rank == len(shape):
        return node.input(position)
    return node.emit("Reshape", node.input(position), node.constant(np.array(shape, np.int64)))


@exporter("quantize")
def quantize(node: ExportNode) -> str:
    """QuantizeLinear where its schema allows; otherwise divide, round, shift, clamp."""
    x, scale, target = node.type(0).dtype, node.type(1).dtype, node.output_type.dtype
    wide = "float64" if "float64" in (x, scale) else "float32" if x != scale or x not in FLOATS else x
    axis = _axis(node)
    if axis is not None and wide in allowed_types("QuantizeLinear") and target in allowed_types("QuantizeLinear", 2):
        operand = node.cast(node.input(0), x, wide)
        step = node.cast(_parameter(node, 1, axis), scale, wide)
        where = axis if axis >= 0 else None
        return node.emit("QuantizeLinear", operand, step, _parameter(node, 2, axis), axis=where)
    if target in FLOATS:
        raise node.unsupported("float8 with scales along several axes")
    wide = "float64" if wide == "float64" else "float32"
    ratio = node.emit("Div", node.cast(node.input(0), x, wide), node.cast(node.input(1), scale, wide))
    rounded = node.cast(node.emit("Round", ratio), wide, "float64")
    total = node.emit("Add", rounded, node.cast(node.input(2), target, "float64"))
    low, high = integer_range(target)
    clipped = node.emit("Clip", total, node.constant(low, "float64"), node.constant(high, "float64"))
    return node.emit("Cast", clipped, to=element_code(target))


@exporter("dequantize")
def dequantize(node: ExportNode) -> str:
    """DequantizeLinear where its schema allows; otherwise difference and product."""
    x, scale = node.type(0).dtype, node.type(1).dtype
    axis = _axis(node)
    # ONNX gives 32-bit integers no zero point.
    direct = x in allowed_types("DequantizeLinear") and not (x == "int32" and _has_zero_point(node))
    if axis is not None and direct and scale in allowed_types("DequantizeLinear", 1):
        zero = "" if x == "int32" else _parameter(node, 2, axis)
        where = axis if axis >= 0 else None
        return node.emit("DequantizeLinear", node.input(0), _parameter(node, 1, axis), zero, axis=where)
    exact = "float32" if x in FLOATS else "int64"
    difference = node.cast(node.input(0), x, exact)
    if node.has(2):
        difference = node.emit("Sub", difference, node.cast(node.input(2), x, exact))
    wide = "float64" if scale == "float64" else "float32"
    product = node.emit("Mul", node.cast(difference, exact, wide), node.cast(node.input(1), scale, wide))
    return node.cast(product, wide, scale)


def _has_zero_point(node: ExportNode) -> bool:
    return node.has(2) and not (node.value(2).is_constant and not np.any(node.value(2).data))
