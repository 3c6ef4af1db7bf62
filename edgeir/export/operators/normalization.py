"""Normalisation: batch_norm, layer_norm, softmax, log_softmax."""

from __future__ import annotations

import numpy as np

from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter


@exporter("batch_norm")
def batch_norm(node: ExportNode) -> str:
    """BatchNormalization for inference."""
    dtype = node.type().dtype
    operands = [node.cast(name, node.type(i).dtype, dtype) for i, name in enumerate(node.inputs)]
    return node.widened("BatchNormalization", operands, [0, 1, 2, 3, 4], epsilon=node.attribute("epsilon"))


@exporter("layer_norm")
def layer_norm(node: ExportNode) -> str:
    """LayerNormalization, which computes statistics in float32; of float64 by its formula."""
    axis, epsilon = node.attribute("axis"), node.attribute("epsilon")
    if node.type().dtype == "float64":
        return _by_formula(node, axis, epsilon)
    operands = [node.input(0), *(_full(node, position, axis) for position in (1, 2))]
    return node.widened("LayerNormalization", operands, [0, 1, 2], axis=axis, epsilon=epsilon)


def _full(node: ExportNode, position: int, axis: int) -> str:
    """A scale or bias of exactly the normalised shape, which ONNX Runtime asks for."""
    if not node.has(position):
        return ""
    value, shape = node.value(position), node.type().shape[axis:]
    if value.type.shape == shape:
        return node.input(position)
    sizes = [dim for dim in shape if isinstance(dim, int)]
    if value.is_constant and len(sizes) == len(shape):
        return node.writer.constant(np.broadcast_to(value.data, sizes), value.name)
    return node.emit("Expand", node.input(position), node.dims(shape))


def _by_formula(node: ExportNode, axis: int, epsilon: float) -> str:
    x, axes = node.input(0), node.constant(list(range(axis, node.type().rank)))
    centred = node.emit("Sub", x, node.emit("ReduceMean", x, axes))
    variance = node.emit("ReduceMean", node.emit("Mul", centred, centred), axes)
    deviation = node.emit("Sqrt", node.emit("Add", variance, node.constant(epsilon, "float64")))
    y = node.emit("Mul", node.emit("Div", centred, deviation), node.input(1))
    return node.emit("Add", y, node.input(2)) if node.has(2) else y


@exporter("softmax", "log_softmax")
def softmax(node: ExportNode) -> str:
    """Softmax or LogSoftmax."""
    op_type = "Softmax" if node.op == "softmax" else "LogSoftmax"
    return node.widened(op_type, [node.input(0)], [0], axis=node.attribute("axis"))
