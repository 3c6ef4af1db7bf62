"""Averages of dequantized tensors as sums of integers.

reduce_mean(dequantize(q, s, z)) → dequantize(reduce_sum(cast(q, int32)), s/n, n·z);
average_pool(dequantize(q, s, z)) → dequantize(conv_integer(q, ones, z) per channel, s/n), n the elements of a window.
"""

from __future__ import annotations

import math

import numpy as np

from edgeir.ir.dtype import numpy_dtype
from edgeir.ops.convolution import Conv
from edgeir.passes.quantization.affine import BYTES, affine_of, zero_number
from edgeir.rewrite import Match, Rewriter, RewriteRule, op

_MOST = 1 << 22
"""Elements of a sum of 8-bit integers that surely fits 32 bits."""


def _why_not_integers(match: Match) -> str | None:
    inner = affine_of(match.node("inner"))
    if inner.q.type.dtype not in BYTES or not inner.is_scalar:
        return "scale or zero point varies, or the integers are wide"
    if not inner.scale.is_constant or zero_number(inner.zero) is None:
        return "the parameters are not constant"
    return None if inner.q.type.shape == match["inner"].type.shape else "the parameters broadcast the integers"


class MeanOfDequantized(RewriteRule):
    """reduce_mean(dequantize(q, s, z)) → dequantize(reduce_sum(cast(q, int32)), s/n, n·z); reduce_sum with n = 1."""

    name = "mean-of-dequantized"
    pattern = op(("reduce_mean", "reduce_sum"), op("dequantize", name="inner"))

    def check(self, match: Match) -> str | None:
        """A known number of elements."""
        problem = _why_not_integers(match)
        if problem is not None:
            return problem
        count = _count(match)
        return None if count is not None and 0 < count <= _MOST else "the number of elements is not known or large"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Sums integers."""
        inner, count = affine_of(match.node("inner")), _count(match)
        assert count is not None
        number = zero_number(inner.zero)
        assert number is not None
        total = rewriter.add("reduce_sum", rewriter.add("cast", inner.q, dtype="int32"), **match.root.attributes)
        step = inner.scale.data.astype(np.float64).reshape(())
        step = step / count if match.root.op == "reduce_mean" else step
        scale = rewriter.constant(step.astype(numpy_dtype(match.root.output.type.dtype)), "scale")
        zero = [rewriter.constant(np.array(number * count, np.int32), "zero_point")] if number else []
        rewriter.replace(rewriter.add("dequantize", total, scale, *zero))


def _count(match: Match) -> int | None:
    shape = match["inner"].type.shape
    dims = [shape[axis] for axis in match.root.attributes["axes"]]
    known = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(known) if len(known) == len(dims) else None


class PoolOfDequantized(RewriteRule):
    """average_pool(dequantize(q, s, z)) → dequantize(conv_integer(q, ones, z), s/n), each channel by itself."""

    name = "pool-of-dequantized"
    pattern = op("average_pool", op("dequantize", name="inner"))

    def check(self, match: Match) -> str | None:
        """No incomplete last windows, and a known size where windows hold different numbers of elements."""
        problem = _why_not_integers(match)
        if problem is not None:
            return problem
        node = match.root
        if node.attributes["ceil_mode"]:
            return "windows may be incomplete"
        if not isinstance(node.output.type.shape[1], int):
            return "the number of channels is not known"
        if _is_uneven(match) and not all(isinstance(dim, int) for dim in node.input(0).type.shape[2:]):
            return "the size is not known"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Convolves with ones."""
        node, inner = match.root, affine_of(match.node("inner"))
        channels, kernel = node.output.type.shape[1], node.attributes["kernel"]
        assert isinstance(channels, int)
        window = {name: node.attributes[name] for name in ("strides", "padding", "dilations")}
        ones = rewriter.constant(np.ones((channels, 1, *kernel), np.int8), "ones")
        number = zero_number(inner.zero)
        zero = rewriter.constant(np.array(number, numpy_dtype(inner.q.type.dtype)), "zero_point") if number else None
        operands = [inner.q, ones, None, zero] if zero is not None else [inner.q, ones]
        total = rewriter.add("conv_integer", *operands, **window, groups=channels)
        count: np.ndarray = np.array(float(math.prod(kernel)))
        if _is_uneven(match):
            plane = np.ones((1, 1, *node.input(0).type.static_shape[2:]))
            count = Conv().evaluate([plane, np.ones((1, 1, *kernel)), None], {**window, "groups": 1})[0][0]
        step = inner.scale.data.astype(np.float64).reshape(()) / count
        scale = rewriter.constant(step.astype(numpy_dtype(node.output.type.dtype)), "scale")
        rewriter.replace(rewriter.add("dequantize", total, scale))


def _is_uneven(match: Match) -> bool:
    attributes = match.root.attributes
    return any(attributes["padding"]) and not attributes["count_include_pad"]


AVERAGE_RULES: tuple[RewriteRule, ...] = (MeanOfDequantized(), PoolOfDequantized())
