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
    if node.opset >= 20:
        axis = -2 if node.optional(2) is None else int(node.constant(2).reshape(()))
    else:
        axis = node.attribute("axis", 1)
    axis = node.axis(axis, x.type.rank)
    if axis == x.type.rank - 1:
        node.unsupported("the last axis holds real and imaginary parts")
    inverse, onesided = bool(node.attribute("inverse", 0)), bool(node.attribute("onesided", 0))
    size = x.type.shape[axis]
    length = 2 * (size - 1) if inverse and onesided else size
    if node.optional(1) is not None:
        length = node.integers(1)[0]
    if not isinstance(length, int):
        node.unsupported("the transformed axis needs a fixed size: fix it with shapes=…")
    return transform(node, x, axis, length, inverse, onesided)


@converter("STFT")
def stft(node: ImportNode) -> Value:
    """Transforms of windows of a signal (batch, time, 1 or 2): (batch, frames, bins, 2)."""
    x, window = node.input(0), node.optional(2)
    if x.type.rank != 3:
        node.unsupported(f"a signal (batch, time, 1 or 2) is needed, got {x.type}")
    size = x.type.shape[1]
    length = size if window is None else window.type.shape[0]
    if node.optional(3) is not None:
        length = node.integers(3)[0]
    step = node.integers(1)[0]
    if not isinstance(size, int) or not isinstance(length, int):
        node.unsupported("the time axis needs a fixed size: fix it with shapes=…")
    if step < 1 or not 0 < length <= size:
        node.unsupported(f"frames of {length} every {step} do not fit a signal of {size}")
    starts = np.arange((size - length) // step + 1) * step
    frames = node.emit("gather", x, node.constant_value(starts[:, None] + np.arange(length)), axis=1)
    if window is not None:
        frames = node.emit("mul", frames, node.reshape(window, (length, 1)))
    return transform(node, frames, 2, length, False, bool(node.attribute("onesided", 1)))


def transform(node: ImportNode, x: Value, axis: int, length: int, inverse: bool, onesided: bool) -> Value:
    """The DFT of length `length` along an axis; inverse and one-sided: real signals from half a spectrum."""
    size, rank = x.type.shape[axis], x.type.rank
    if not isinstance(size, int) or length < 1:
        node.unsupported("the transformed axis needs a fixed size: fix it with shapes=…")
    half = length // 2 + 1
    to_real = inverse and onesided
    used, bins = min(size, half if to_real else length), half if onesided and not inverse else length
    if used * bins > LARGEST_TABLE:
        node.unsupported(f"a transform of length {length} is too long")
    x = node.take(x, axis, 0, used)
    # The transformed axis goes last, where a matrix product can sum over it; the parts stand before it.
    perm = [*(i for i in range(rank - 1) if i != axis), rank - 1, axis]
    rows = node.transpose(x, perm)
    parts = rank - 2
    angle = 2 * np.pi * np.outer(np.arange(used), np.arange(bins)) / length * (1 if inverse else -1)
    factor = np.full((used, 1), 1 / length if inverse else 1.0)
    if to_real:
        # Every bin but the first and, for even lengths, the last stands for its conjugate too.
        twice = np.arange(used) * 2 % length != 0
        factor = factor * (1 + twice[:, None])
    cosines = node.constant_value(np.cos(angle) * factor, x.type.dtype)
    sines = node.constant_value(np.sin(angle) * factor, x.type.dtype)
    real = node.take(rows, parts, 0, 1)
    by_cosine, by_sine = node.emit("matmul", real, cosines), node.emit("matmul", real, sines)
    if rows.type.shape[parts] != 1:
        imaginary = node.take(rows, parts, 1, 1)
        by_cosine = node.emit("sub", by_cosine, node.emit("matmul", imaginary, sines))
        by_sine = node.emit("add", by_sine, node.emit("matmul", imaginary, cosines))
    joined = by_cosine if to_real else node.emit("concat", by_cosine, by_sine, axis=parts)
    return node.transpose(joined, [perm.index(i) for i in range(rank)])
