"""Zero points of activations become part of floating-point biases.

dequantize(conv_integer(x, w, zx), s) + b → dequantize(conv_integer(x, w), s) + (b − zx·Σw·s); unpadded only, since the
border counts as the zero point; matmul_integer likewise. A kernel then adds one number to a sum, not two, and stores
one for each channel.
"""

from __future__ import annotations

import numpy as np

from edgeir.ir import Value
from edgeir.ir.evaluate import evaluate_node
from edgeir.ops.operands import integer_range
from edgeir.passes.quantization.channel_scales import along_channels
from edgeir.passes.quantization.integer_operands import LEFT, RIGHT, summed_axes, without_zero_points, zero_point
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, op

EXACT = 1 << 24
"""Sums up to here are exact as float32, with or without the zero point's part."""


class ZeroIntoBias(RewriteRule):
    """A scaled sum with a zero point, and perhaps a bias → the sum without, and a bias."""

    name = "zero-into-bias"
    pattern = op("dequantize", op(("conv_integer", "matmul_integer"), name="product"), anything("scale"))

    def check(self, match: Match) -> str | None:
        """Constants, no border, and sums that floats hold exactly."""
        product, scale = match.node("product"), match["scale"]
        zero = zero_point(product, LEFT)
        if zero is None or not zero.is_constant or zero.data.size != 1 or not zero.data.any():
            return "there is no constant zero point"
        if zero_point(product, RIGHT) is not None or len(match.root.inputs) > 2 or not scale.is_constant:
            return "the weights have a zero point, or the scale is computed"
        if product.output.use_count != 1 or product.output.is_output or match.root.output.type.dtype != "float32":
            return "others read the sum"
        if product.op == "conv_integer" and (any(product.attributes["padding"]) or product.inputs[2] is not None):
            return "the border counts as the zero point, or the sum has a bias of integers"
        weights = integers(product.input(1))
        if weights is None or (product.op == "matmul_integer" and weights.ndim != 2):
            return "the weights are not constant"
        largest = max(map(abs, integer_range(product.input(0).type.dtype)))
        bound = largest * int(np.abs(weights).sum(axis=summed_axes(product)).max(initial=0))
        return None if bound <= EXACT else "the sums may be too large for exact floats"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Computes the zero point's part of each channel."""
        product, scale = match.node("product"), match["scale"]
        zero, weights = zero_point(product, LEFT), integers(product.input(1))
        assert zero is not None and weights is not None
        sums = along_channels(weights.sum(axis=summed_axes(product)).astype(np.float64), product)
        part = -int(zero.data.reshape(())) * sums * scale.data.astype(np.float64)
        total = rewriter.add(product.op, *without_zero_points(product), name="sum", **product.attributes)
        y = rewriter.add("dequantize", total, scale)
        rewriter.replace(rewriter.add("add", y, rewriter.constant(part.astype(np.float32), "bias")))


class AddBiases(RewriteRule):
    """(scaled sum + b) + c of constants → scaled sum + (b + c)."""

    name = "add-biases"
    pattern = op("add", op("add", op("dequantize", name="sum"), anything("first"), name="inner"), anything("second"))

    def check(self, match: Match) -> str | None:
        """Two constants, the inner sum read once."""
        inner, first, second = match.node("inner"), match["first"], match["second"]
        if not (first.is_constant and second.is_constant) or inner.output.use_count != 1 or inner.output.is_output:
            return "there are not two constants"
        return None if inner.output.type == match.root.output.type else "the constant broadcasts the sum"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the constants."""
        both = match["first"].data.astype(np.float64) + match["second"].data.astype(np.float64)
        bias = rewriter.constant(both.astype(match["first"].data.dtype), "bias")
        rewriter.replace(rewriter.add("add", match.node("sum").output, bias))


def integers(value: Value) -> np.ndarray | None:
    """Constant weights, which may be decoded by one operator, as int64; None where they are computed."""
    if value.is_constant:
        return value.data.astype(np.int64)
    producer = value.producer
    if producer is None or producer.op not in ("cast", "lookup"):
        return None
    if not all(operand.is_constant for operand in producer.present_inputs):
        return None
    return evaluate_node(producer, [operand.data for operand in producer.present_inputs])[0].astype(np.int64)


ZERO_RULES: tuple[RewriteRule, ...] = (ZeroIntoBias(), AddBiases())
