"""Zero points of constant weights go, so that kernels multiply signed weights as they are.

    conv_integer(x, w, b?, zx?, zw) → conv_integer(x, w − zw, b?, zx?)

where the differences fit the signed type of w's width. Elsewhere w − c does, with c = 2^(bits − 1) of unsigned weights
and 0 of signed ones, and what is left of the zero point is subtracted from the sums:

    → conv_integer(x, w − c, b?, zx?) − (zw − c)·conv_integer(x, 1, zx?)

likewise for matmul_integer. The integers stay the same.
"""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node, Value
from edgeir.ir.dtype import bits, numpy_dtype
from edgeir.ops.integer import ZERO_POINTS
from edgeir.passes.quantization.channel_scales import along_channels
from edgeir.passes.quantization.integer_operands import MOST_TERMS, RIGHT, without_absent, zero_point
from edgeir.rewrite import Match, Rewriter, RewriteRule, op


class WeightZero(RewriteRule):
    """Constant weights with a zero point, or unsigned ones → signed ones without."""

    name = "weight-zero"
    pattern = op(("conv_integer", "matmul_integer"), where=lambda node: node.input(1).is_constant)

    def check(self, match: Match) -> str | None:
        """A constant zero point; in groups, one that the signed type has room for."""
        node = match.root
        zero = zero_point(node, RIGHT)
        if zero is None and node.input(1).type.dtype.startswith("int"):
            return "the weights are signed and have no zero point"
        if zero is not None and not zero.is_constant:
            return "the zero point is computed"
        if node.input(1).data.size == 0:
            return "there are no weights"
        if _fits(node):
            return None
        if node.op == "conv_integer" and node.attributes["groups"] > 1:
            return "the differences do not fit, and sums of the input would be needed for each group"
        return None if _ones(node).size <= MOST_TERMS else "the sums might overflow"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Subtracts it from the weights, or most of it."""
        node = match.root
        w, wide, zero = node.input(1), _wide(node.input(1)), _zero_points(node)
        dtype = numpy_dtype(f"int{bits(w.type.dtype)}")
        operands = list(node.inputs[: ZERO_POINTS[node.op][RIGHT]])
        fits = _fits(node)
        taken = _along_weights(zero, node) if fits else np.int64(_middle(w))
        operands[1] = rewriter.constant((wide - taken).astype(np.int8).astype(dtype), w.name)
        total = rewriter.add(node.op, *without_absent(operands), name=node.output.name, **node.attributes)
        if fits:
            rewriter.replace(total)
            return
        left = along_channels(zero - _middle(w), node).astype(np.int32)
        operands = [node.inputs[0], rewriter.constant(_ones(node), "ones"), *operands[2:]]
        if node.op == "conv_integer" and len(operands) > 2:
            operands[2] = None  # the bias
        sums = rewriter.add(node.op, *without_absent(operands), name="sum", **node.attributes)
        part = rewriter.add("mul", sums, rewriter.constant(left, "zero_point"))
        rewriter.replace(rewriter.add("sub", total, part))


def _zero_points(node: Node) -> np.ndarray:
    """A scalar, or one of each output channel."""
    zero = zero_point(node, RIGHT)
    return np.zeros((), np.int64) if zero is None else _wide(zero)


def _wide(value: Value) -> np.ndarray:
    return value.data.astype(np.int64)


def _middle(weights: Value) -> int:
    """What fits every unsigned weight into the signed type."""
    dtype = weights.type.dtype
    return 1 << (bits(dtype) - 1) if dtype.startswith("u") else 0


def _fits(node: Node) -> bool:
    w = node.input(1)
    difference, half = _wide(w) - _along_weights(_zero_points(node), node), 1 << (bits(w.type.dtype) - 1)
    return bool(difference.min() >= -half and difference.max() < half)


def _along_weights(vector: np.ndarray, node: Node) -> np.ndarray:
    """One number of each output channel as it broadcasts against the weights."""
    if vector.ndim == 0:
        return vector
    if node.op == "conv_integer":
        return vector.reshape(-1, *(1,) * (node.input(1).type.rank - 1))
    return vector[:, None] if node.attributes["transpose_b"] else vector


def _ones(node: Node) -> np.ndarray:
    """Weights of one output channel that sum the input."""
    shape = list(node.input(1).data.shape)
    if node.op == "conv_integer":
        shape[0] = 1
    else:
        # One matrix is enough for all of a batch.
        shape = [1, shape[-1]] if node.attributes["transpose_b"] else [shape[-2], 1]
    return np.ones(shape, np.int8)
