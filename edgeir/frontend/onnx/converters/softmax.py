"""Softmax and its relatives; before opset 13 they flatten x to a matrix."""

from __future__ import annotations

from collections.abc import Callable

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ir.dims import product


def _along_axis(node: ImportNode, function: Callable[[Value, int], Value]) -> Value:
    x = node.input(0)
    shape = x.type.shape
    axis = node.axis(node.attribute("axis", -1 if node.opset >= 13 else 1), x.type.rank)
    if node.opset >= 13 or all(dim == 1 for dim in shape[axis + 1 :]):
        return function(x, axis)
    matrix = node.reshape(x, (product(shape[:axis]), product(shape[axis:])))
    return node.reshape(function(matrix, 1), shape)


@converter("Softmax", "LogSoftmax")
def softmax(node: ImportNode) -> Value:
    """eˣ / Σeˣ along an axis, or its logarithm."""
    op = "softmax" if node.op_type == "Softmax" else "log_softmax"
    return _along_axis(node, lambda x, axis: node.emit(op, x, axis=axis))


@converter("Hardmax")
def hardmax(node: ImportNode) -> Value:
    """1 at the first maximum along an axis, 0 elsewhere."""

    def function(x: Value, axis: int) -> Value:
        first = node.emit("arg_max", x, axis=axis, keepdims=True)
        shape = [x.type.shape[axis] if i == axis else 1 for i in range(x.type.rank)]
        positions = node.reshape(node.emit("iota", size=x.type.shape[axis], dtype="int64"), shape)
        return node.cast(node.emit("equal", positions, first), x.type.dtype)

    return _along_axis(node, function)
