"""Fourier transforms as products with constant tables."""

from __future__ import annotations

import numpy as np

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value

LARGEST_TABLE = 1 << 22
"""Elements of a table of sines or cosines."""


@converter("DFT")
def dft(node: ImportNode) -> Value:
    """Discrete Fourier transform along one axis; x (…, 1) real or (…, 2) complex, result (…, 2)."""
    x = node.input(0)
    rank = x.type.rank
    if node.opset >= 20:
        axis = -2 if node.optional(2) is None else int(node.constant(2).reshape(()))
    else:
        axis = node.attribute("axis", 1)
    axis = node.axis(axis, rank)
    if axis == rank - 1:
        node.unsupported("the last axis holds real and imaginary parts")
    size = x.type.shape[axis]
    length = size if node.optional(1) is None else node.integers(1)[0]
    if not isinstance(size, int) or not isinstance(length, int):
        node.unsupported("the transformed axis needs a fixed size: fix it with shapes=…")
    inverse, onesided = bool(node.attribute("inverse", 0)), bool(node.attribute("onesided", 0))
    if inverse and onesided:
        node.unsupported("an inverse transform of one side")
    if length < size:
        x = node.take(x, axis, 0, length)
    bins = length // 2 + 1 if onesided else length
    used = min(size, length)
    if used * bins > LARGEST_TABLE:
        node.unsupported(f"a transform of length {length} is too long")
    # The transformed axis goes last but one, in front of real and imaginary part, then last.
    perm = [*(i for i in range(rank - 1) if i != axis), rank - 1, axis]
    rows = node.transpose(x, perm)
    angle = 2 * np.pi * np.outer(np.arange(used), np.arange(bins)) / length * (1 if inverse else -1)
    factor = 1 / length if inverse else 1.0
    dtype = x.type.dtype
    cosines = node.constant_value(np.cos(angle) * factor, dtype)
    sines = node.constant_value(np.sin(angle) * factor, dtype)
    part_axis = rank - 2
    real = node.take(rows, part_axis, 0, 1)
    if rows.type.shape[part_axis] == 1:
        parts = [node.emit("matmul", real, cosines), node.emit("matmul", real, sines)]
    else:
        imaginary = node.take(rows, part_axis, 1, 1)
        parts = [
            node.emit("sub", node.emit("matmul", real, cosines), node.emit("matmul", imaginary, sines)),
            node.emit("add", node.emit("matmul", real, sines), node.emit("matmul", imaginary, cosines)),
        ]
    joined = node.emit("concat", *parts, axis=part_axis)
    back = [perm.index(i) for i in range(rank)]
    return node.transpose(joined, back)
