"""Scales along the output channels of a product."""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node


def output_channel_axis(node: Node) -> int:
    """The axis of the weights along which the output channels of a `conv` or `matmul` lie."""
    if node.op == "matmul":
        return node.input(1).type.rank - (2 if node.attributes["transpose_b"] else 1)
    return 0


def per_output_channel(array: np.ndarray, node: Node) -> np.ndarray | None:
    """A parameter that broadcasts against the weights, as a scalar or one element per output channel.

    None if it varies along other axes.
    """
    if array.size == 1:
        return array.reshape(())
    rank, axis = node.input(1).type.rank, output_channel_axis(node)
    if array.ndim > rank:
        return None
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if any(size != 1 for position, size in enumerate(full.shape) if position != axis):
        return None
    vector = full.reshape(-1)
    return vector[0] if bool((vector == vector[0]).all()) else vector


def along_channels(vector: np.ndarray, node: Node) -> np.ndarray:
    """One element per output channel, in a shape that broadcasts against the result of a product.

    Args:
        vector: a scalar, or one element per output channel.
        node: a `conv` or `matmul`, or its form of integers.
    """
    if vector.ndim == 0 or node.op in ("matmul", "matmul_integer"):
        return vector
    return vector.reshape(-1, *(1,) * (node.output.type.rank - 2))
