"""Which constant weights are sparse: what a schedule must know before the constant itself reaches it."""

from __future__ import annotations

import numpy as np

from edgeir.ir.graph import Node
from edgeir.schedules.sparse_storage import SparsePattern, example_matrix, pattern_of

SPARSE_ANCHORS = ("conv", "matmul")
"""Operators that have sparse kernels."""

_PLAIN_LAYOUTS = ("", "OIHW", "OIW", "OIDHW")


def weight_sparsity(anchor: Node | None, weight: np.ndarray | None) -> SparsePattern | None:
    """The pattern of an anchor's weight, or None where no sparse kernel exists or the weight is too dense.

    Args:
        anchor: the node that does the heavy work.
        weight: its second operand where that is a constant: of shape (O, C, 1…) for `conv`, (K, N) for `matmul`.
    """
    if anchor is None or anchor.op not in SPARSE_ANCHORS or weight is None:
        return None
    matrix = _rows_of_outputs(anchor, weight)
    return None if matrix is None else pattern_of(matrix)


def example_weight(node: Node, name: str, pattern: SparsePattern) -> np.ndarray | None:
    """A random weight of a pattern, for the constant `name` that an anchor in `node` multiplies with.

    Returns:
        An array of the weight's logical shape; None where no anchor of the node reads that value as its weight.
    """
    inner = list(node.attributes["body"].nodes) if node.op == "fused" else [node]
    for anchor in inner:
        if anchor.op not in SPARSE_ANCHORS or len(anchor.inputs) < 2:
            continue
        weight = anchor.input(1)
        outer = weight
        if node.op == "fused":
            inputs = node.attributes["body"].inputs
            if weight not in inputs:
                continue
            outer = node.input(inputs.index(weight))
        if outer.name == name:
            shape = weight.type.static_shape
            rows = _rows_of_outputs(anchor, np.broadcast_to(np.float32(0), shape))
            if rows is None:
                return None
            matrix = example_matrix(pattern, *rows.shape)
            swapped = anchor.op == "matmul" and not anchor.attributes["transpose_b"]
            return np.ascontiguousarray(matrix.T if swapped else matrix).reshape(shape)
    return None


def _rows_of_outputs(anchor: Node, weight: np.ndarray) -> np.ndarray | None:
    if weight.dtype != np.float32 or anchor.input(1).type.layout not in _PLAIN_LAYOUTS:
        return None
    if anchor.op == "conv":
        pointwise = weight.shape[2:] == (1,) * (weight.ndim - 2) and anchor.attributes["groups"] == 1
        return weight.reshape(weight.shape[0], -1) if pointwise else None
    if anchor.op == "matmul" and weight.ndim >= 2 and weight.size == weight.shape[-1] * weight.shape[-2]:
        matrix = weight.reshape(weight.shape[-2:])
        return matrix if anchor.attributes["transpose_b"] else matrix.T
    return None
