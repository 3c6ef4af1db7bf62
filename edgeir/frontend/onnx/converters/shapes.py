"""Operators that read or change shapes and leave the elements in order."""

from __future__ import annotations

import numpy as np

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Dim, SymbolicDim, Value
from edgeir.ir.dims import floor_divide, product


@converter("Identity")
def identity(node: ImportNode) -> Value:
    """x."""
    return node.input(0)


@converter("Shape")
def shape(node: ImportNode) -> Value:
    """The dimensions of x, or a range of them."""
    dims = node.type(0).shape
    return node.dims_value(dims[slice(node.attribute("start", 0), node.attribute("end"))])


@converter("Size")
def size(node: ImportNode) -> Value:
    """The number of elements of x."""
    return node.dims_value([node.type(0).elements], ())


@converter("Reshape")
def reshape(node: ImportNode) -> Value:
    """x in another shape: 0 keeps a dimension (unless allowzero), −1 takes what is left."""
    x, wanted = node.input(0), node.dims(1)
    dims: list[Dim] = []
    for axis, dim in enumerate(wanted):
        if dim == 0 and not node.attribute("allowzero", 0):
            if axis >= x.type.rank:
                node.unsupported(f"shape {list(wanted)} keeps an axis that {x.type} lacks")
            dim = x.type.shape[axis]
        dims.append(dim)
    return node.reshape(x, resolve_rest(node, x.type.elements, dims))


def resolve_rest(node: ImportNode, elements: Dim, dims: list[Dim]) -> list[Dim]:
    """Replaces a single −1 by the number of elements over the product of the others."""
    if dims.count(-1) > 1 or any(isinstance(dim, int) and dim < -1 for dim in dims):
        node.unsupported(f"shape {dims} is not valid")
    if -1 not in dims:
        return dims
    others = product(dim for dim in dims if dim != -1)
    if others == 0:
        node.unsupported(f"shape {dims} leaves the size of an axis open")
    rest = floor_divide(elements, others)
    if rest * others != elements:
        hint = ": fix symbolic sizes with shapes=…" if isinstance(elements, SymbolicDim) else ""
        node.unsupported(f"{elements} elements do not fill shape {dims}{hint}")
    return [rest if dim == -1 else dim for dim in dims]


@converter("Flatten")
def flatten(node: ImportNode) -> Value:
    """x as a matrix: axes before `axis` and the rest."""
    x = node.input(0)
    axis = node.axis(node.attribute("axis", 1), x.type.rank, inclusive=True)
    return node.reshape(x, (product(x.type.shape[:axis]), product(x.type.shape[axis:])))


def axes_operand(node: ImportNode, since: int) -> tuple[int, ...] | None:
    """Axes given as an input since opset `since`, as an attribute before; None where absent."""
    if node.opset >= since:
        return node.optional_integers(1)
    axes = node.attribute("axes")
    return None if axes is None else tuple(axes)


@converter("Squeeze")
def squeeze(node: ImportNode) -> Value:
    """x without axes of size 1."""
    x, axes = node.input(0), axes_operand(node, 13)
    dims = x.type.shape
    if axes is None:
        if not x.type.is_static:
            node.unsupported(f"which axes of {x.type} have size 1 is not known: fix them with shapes=…")
        gone = {axis for axis, dim in enumerate(dims) if dim == 1}
    else:
        gone = {node.axis(axis, x.type.rank) for axis in axes}
    if any(dims[axis] != 1 for axis in gone):
        node.unsupported(f"axes {sorted(gone)} of {x.type} do not all have size 1")
    return node.reshape(x, [dim for axis, dim in enumerate(dims) if axis not in gone])


@converter("Unsqueeze")
def unsqueeze(node: ImportNode) -> Value:
    """x with new axes of size 1."""
    x, axes = node.input(0), axes_operand(node, 13)
    if axes is None:
        node.unsupported("axes are missing")
    rank = x.type.rank + len(axes)
    new = {node.axis(axis, rank) for axis in axes}
    if len(new) != len(axes):
        node.unsupported(f"axes {axes} repeat")
    rest = iter(x.type.shape)
    return node.reshape(x, [1 if axis in new else next(rest) for axis in range(rank)])


@converter("Expand")
def expand(node: ImportNode) -> Value:
    """x broadcast with a shape: a dimension of 1 in either takes the other's."""
    x, wanted = node.input(0), node.dims(1)
    rank = max(x.type.rank, len(wanted))
    have = (1,) * (rank - x.type.rank) + x.type.shape
    want = (1,) * (rank - len(wanted)) + wanted
    return node.expand(
        x, [a if b == 1 or a == b else b if a == 1 else _joined(a, b) for a, b in zip(have, want, strict=True)]
    )


def _joined(have: Dim, want: Dim) -> Dim:
    # One of two different dimensions must be 1 or both be equal; if one is a number above 1, that is the result.
    return have if isinstance(have, int) else want


@converter("Dropout")
def dropout(node: ImportNode) -> list[Value | None]:
    """x, and a mask of ones: inference drops nothing."""
    x, training = node.input(0), node.optional(2)
    if training is not None and not (training.is_constant and not training.data.any()):
        ratio = node.optional(1)
        if ratio is None or not ratio.is_constant or ratio.data.any():
            node.unsupported("dropout in training mode")
    if not node.wants(1):
        return [x, None]
    one = node.constant_value(np.array(True), "bool" if node.opset >= 10 else x.type.dtype)
    return [x, node.expand(one, x.type.shape)]
