"""Multiplies matrices by 8-bit weights with inputs that are quantized as they come.

    %y = matmul(%x, %w) : float32[4, 16]

becomes, with the weights rounded per column at compile time,

    %q, %s, %z = … the range of %x, 0 included, in 256 steps
    %n = matmul_integer(%q, %w8, %z) : int32[4, 16]
    %y = dequantize(%n, %s·%t) : float32[4, 16]

No calibration data is needed. Results differ by the rounding of inputs and weights to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeir.ir import Graph, Node, Value
from edgeir.passes.quantization.affine import dequantized
from edgeir.passes.quantization.integer_operands import MOST_TERMS
from edgeir.passes.quantization.quantize_weights import input_axis, output_axis, sums_saturate
from edgeir.passes.quantization.weight_rounding import linear_codes, linear_scales
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, op

_LEVELS = 255


class DynamicProduct(RewriteRule):
    """matmul(x, w) → dequantize(matmul_integer(quantize(x, s, z), w8, z), s·t), s and z from x's range.

    Args:
        min_weights: matrices with fewer elements stay.
        per_column: whether each column of the weights has a scale of its own.
        pairs: whether neighbours along the summed axis stay within 128 together (see `linear_scales`).
    """

    name = "dynamic-product"
    pattern = op("matmul", name="product")

    def __init__(self, min_weights: int, per_column: bool, pairs: bool) -> None:
        self.min_weights = min_weights
        self.per_column = per_column
        self.pairs = pairs

    def check(self, match: Match) -> str | None:
        """A computed float32 matrix times a constant one that is large enough."""
        x, w = match.root.input(0), match.root.input(1)
        if x.is_constant or not w.is_constant or w.type.dtype != "float32" or w.type.rank != 2:
            return "the right operand is no constant matrix of float32"
        if w.data.size < self.min_weights or not np.isfinite(w.data).all():
            return "the weights are few, or not finite"
        if x.type.elements == 0 or match.root.output.type.layout:
            return "the input is empty, or has a layout"
        return None if w.data.shape[input_axis(match.root) or 0] <= MOST_TERMS else "the sums might overflow"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Rounds the weights; quantizes the input."""
        node, w = match.root, match.root.input(1)
        axes = (output_axis(node),) if self.per_column else ()
        pair = input_axis(node) if self.pairs else None
        steps = linear_scales(w.data, axes, "int8", "float32", pair, search=False)
        weights = rewriter.constant(linear_codes(w.data, steps, "int8", pair), w.name)
        _replace(node, weights, steps, rewriter)


class DynamicStoredProduct(RewriteRule):
    """matmul(x, dequantize(w8, t)) → dequantize(matmul_integer(quantize(x, s, z), w8, z), s·t): the weights stay."""

    name = "dynamic-stored-product"
    pattern = op("matmul", name="product")

    def check(self, match: Match) -> str | None:
        """A computed float32 matrix times one that is stored in int8 with a scale in all, or for each column."""
        x, stored = match.root.input(0), dequantized(match.root.input(1))
        if x.is_constant or x.type.dtype != "float32" or stored is None:
            return "the right operand is not dequantized"
        q, scale = stored.q, stored.scale
        if not (q.is_constant and scale.is_constant) or q.type.dtype != "int8" or q.type.rank != 2:
            return "the weights are no constant matrix of int8"
        if stored.zero is not None and not (stored.zero.is_constant and not stored.zero.data.any()):
            return "the weights have a zero point"
        if _columns(match.root, scale.data) is None or scale.type.dtype != "float32":
            return "the scale varies along what is summed"
        if x.type.elements == 0 or match.root.output.type.layout:
            return "the input is empty, or has a layout"
        return None if q.data.shape[1 - output_axis(match.root)] <= MOST_TERMS else "the sums might overflow"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Quantizes the input."""
        stored = dequantized(match.root.input(1))
        assert stored is not None
        column = _columns(match.root, stored.scale.data)
        assert column is not None
        _replace(match.root, stored.q, column, rewriter)


def _columns(node: Node, scale: np.ndarray) -> np.ndarray | None:
    """A scale as one number, or as one for each column of a product; None if it varies otherwise."""
    if scale.size == 1:
        return scale
    full = scale.reshape((1,) * (2 - scale.ndim) + scale.shape)
    return scale.reshape(-1) if full.shape[1 - output_axis(node)] == 1 else None


def _replace(node: Node, weights: Value, steps: np.ndarray, rewriter: Rewriter) -> None:
    """The product of a node with its input quantized as it comes; `steps` are the weights' scales."""
    column = steps.reshape(-1) if steps.size > 1 else steps.reshape(())
    q, scale, zero = quantized_over_range(rewriter, node.input(0))
    total = rewriter.add("matmul_integer", q, weights, zero, **node.attributes)
    factor = rewriter.add("mul", scale, rewriter.constant(column, "scale"))
    rewriter.replace(rewriter.add("dequantize", total, factor))


def quantized_over_range(rewriter: Rewriter, x: Value) -> tuple[Value, Value, Value]:
    """x (float32) as uint8 over its own range, 0 included; scale and zero point. ONNX DynamicQuantizeLinear.

    For each of several products that read x the nodes are equal, and `common-subexpressions` makes them one.
    """
    add = rewriter.add

    def number(value: float) -> Value:
        return rewriter.constant(np.array(value, np.float32), "number")

    axes = tuple(range(x.type.rank))
    high = add("maximum", add("reduce_max", x, axes=axes, keepdims=True), number(0))
    low = add("minimum", add("reduce_min", x, axes=axes, keepdims=True), number(0))
    spread = add("div", add("sub", high, low), number(_LEVELS))
    # A constant 0 would divide by 0; any scale represents it.
    scale = add("reshape", add("where", add("equal", spread, number(0)), number(1), spread), shape=())
    shift = add(
        "round",
        add("clip", add("div", add("neg", add("reshape", low, shape=())), scale), minimum=0.0, maximum=float(_LEVELS)),
    )
    zero = add("cast", shift, dtype="uint8")
    return add("quantize", x, scale, zero), scale, zero


@register_pass
@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Turns products by constant matrices into integer products of dynamically quantized inputs.

    Recurrent layers take part once `unroll-recurrent` has made products of them.

    Attributes:
        min_weights: matrices with fewer elements stay in floating point, where quantizing the input costs more than
            the product saves.
        per_column: whether each column of the weights has a scale of its own.
        pairs: whether neighbouring weights must stay within 128 together, so that the 16-bit sums of `vpmaddubsw` are
            exact. `auto`: on x86 without VNNI instructions.
    """

    name: ClassVar[str] = "quantize-dynamic"
    min_weights: int = 4096
    per_column: bool = True
    pairs: Literal["auto", "yes", "no"] = "auto"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        pairs = sums_saturate(context.target) if self.pairs == "auto" else self.pairs == "yes"
        rules = DynamicProduct(self.min_weights, self.per_column, pairs), DynamicStoredProduct()
        context.apply(graph, rules)
