"""Tensors made from nothing or from a shape."""

from __future__ import annotations

import math

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.known_values import LARGEST_VALUE
from edgeir.frontend.onnx.protos import element_type
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Dim, Value
from edgeir.ir.dims import ceil_divide
from edgeir.ir.dtype import numpy_dtype

LARGEST_MATERIALIZED = 1 << 26
"""Elements of a tensor that the import itself fills."""


@converter("Constant")
def constant(node: ImportNode) -> Value:
    """A tensor in an attribute."""
    for name, value in node.attributes.items():
        match name:
            case "value" | "sparse_value":
                return node.constant_value(value)
            case "value_int" | "value_ints":
                return node.constant_value(np.array(value, dtype=np.int64))
            case "value_float" | "value_floats":
                return node.constant_value(np.array(value, dtype=np.float32))
    node.unsupported(f"a constant of {', '.join(node.attributes) or 'nothing'}")


@converter("ConstantOfShape")
def constant_of_shape(node: ImportNode) -> Value:
    """A shape filled with one value."""
    value = node.attribute("value", np.zeros(1, np.float32))
    shape = node.dims(0)
    if any(isinstance(dim, int) and dim < 0 for dim in shape):
        node.unsupported(f"shape {list(shape)} has a negative dimension")
    if math.prod(dim for dim in shape if isinstance(dim, int)) > LARGEST_VALUE:
        raise EdgeIRError("a tensor is too large", got=list(shape), expected=f"at most {LARGEST_VALUE} elements")
    return node.expand(node.constant_value(value.reshape(())), shape)


@converter("Range")
def range_(node: ImportNode) -> Value:
    """start, start + delta, … before limit."""
    dtype = node.type(0).dtype
    if all(node.input(index).is_constant for index in range(3)):
        start, limit, delta = (node.constant(index).reshape(()) for index in range(3))
        step = delta.item()
        if step == 0:
            node.unsupported("a step of 0")
        count = max(math.ceil((limit.item() - start.item()) / step), 0)
        if count <= LARGEST_MATERIALIZED:
            # In the type itself, as the standard's own definition computes it.
            kind = numpy_dtype(dtype)
            return node.constant_value(
                (start.astype(kind) + np.arange(count).astype(kind) * delta.astype(kind)).astype(kind)
            )
        raise EdgeIRError("a range is too long", got=count, expected=f"at most {LARGEST_MATERIALIZED} elements")
    start, limit, delta = (_only(node, index) for index in range(3))
    if not isinstance(delta, int) or delta == 0:
        node.unsupported("the step must be a constant other than 0")
    span = limit - start if delta > 0 else start - limit
    positions = node.emit("iota", size=ceil_divide(span, abs(delta)), dtype=dtype)
    if delta != 1:
        positions = node.emit("mul", positions, node.scalar(delta, positions))
    return positions if start == 0 else node.emit("add", positions, node.input(0))


def _only(node: ImportNode, index: int) -> Dim:
    dims = node.dims(index)
    if len(dims) != 1:
        node.unsupported(f"input {index} must be a scalar")
    return dims[0]


@converter("EyeLike")
def eye_like(node: ImportNode) -> Value:
    """Ones on a diagonal of a matrix of x's shape."""
    code = node.attribute("dtype")
    dtype = node.type(0).dtype if code is None else element_type(code)
    rows, columns = node.static_shape(0, "EyeLike")
    if rows * columns > LARGEST_MATERIALIZED:
        raise EdgeIRError("a tensor is too large", got=[rows, columns])
    return node.constant_value(np.eye(rows, columns, node.attribute("k", 0)), dtype)
