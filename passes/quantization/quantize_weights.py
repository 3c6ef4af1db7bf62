"""Stores the weights of convolutions and products in few bits.

    %w = constant float32[2, 3] [0.5, -1.0, 0.25, 2.0, 1.0, -2.0]
    %y = matmul(%x, %w) : float32[1, 3]

becomes

    %q = constant int8[2, 3] [32, -127, 16, 127, 127, -127]
    %d = dequantize(%q, scales, zero) : float32[2, 3]
    %y = matmul(%x, %d) : float32[1, 3]

with a scale for each output channel. With `trainable` the float weights stay: dequantize(quantize(%w)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.passes.quantization.placement import FLOATS, INTEGER_ANCHORS, skipped_nodes
from edgeir.passes.quantization.weight_rounding import linear_codes, linear_scales, log_codes, log_scales
from edgeir.passmanager import Pass, PassContext, register_pass

_ACCUMULATOR = 2.0**30
"""A bias in units of the sums' scale stays below this, so that 32 bits hold it and the sum."""


@register_pass
@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Quantizes the constant weights of `conv`, `conv_transpose` and `matmul`; works with and without `insert-qdq`.

    Attributes:
        scheme: `linear` for symmetric integers, `log2` for signs and powers of 2 (`log_quantize`).
        bits: 8 or 4; `log2` takes 3 to 8.
        per_channel: a scale for each output channel, or one for all.
        trainable: whether float weights stay and are rounded in the graph.
        search: whether scales are chosen for the least squared error; if not, by the largest weight. `auto`: below 8
            bits. `log2` always searches.
        pairs: whether neighbouring input channels' weights must stay within 128 together, so that the 16-bit sums of
            `vpmaddubsw` are exact. `auto`: on x86 without VNNI instructions.
        only_integer: whether to leave weights alone whose other operand is not quantized.
        skip: operators or names that stay float.
    """

    name: ClassVar[str] = "quantize-weights"
    scheme: Literal["linear", "log2"] = "linear"
    bits: int = 8
    per_channel: bool = True
    trainable: bool = False
    search: Literal["auto", "yes", "no"] = "auto"
    pairs: Literal["auto", "yes", "no"] = "auto"
    only_integer: bool = False
    skip: tuple[str, ...] = ()

    def run(self, graph: Graph, context: PassContext) -> None:
        """One node after another; weights that several nodes read in the same way are stored once.

        Raises:
            EdgeIRError: an option out of range, or weights that are infinite or NaN.
        """
        allowed = (4, 8) if self.scheme == "linear" else range(3, 9)
        if self.bits not in allowed:
            where = f"pass {self.name}"
            raise EdgeIRError("not a number of bits", where=where, expected=", ".join(map(str, allowed)), got=self.bits)
        skipped = skipped_nodes(graph, self.skip)
        stored: dict[tuple[Any, ...], Value] = {}
        for node in list(graph.nodes):
            if node in skipped or not self._applies(node):
                continue
            if not context.permit(self.name, node):
                break
            weights = node.input(1)
            axis = output_axis(node)
            pair = input_axis(node) if self._pairs(context.target) else None
            floor = least_scales(node, axis, self.per_channel)
            key = (weights, axis, pair, None if floor is None else floor.tobytes())
            if key not in stored:
                stored[key] = self._store(graph, node, axis, pair, floor)
            elif not graph.comes_before(_producer(stored[key]), node):
                continue
            graph.set_input(node, 1, stored[key])
        graph.remove_unused_constants()

    def _applies(self, node: Node) -> bool:
        if node.op not in INTEGER_ANCHORS:
            return False
        weights, data = node.input(1), node.input(0)
        if not weights.is_constant or weights.type.dtype not in FLOATS or not weights.data.size:
            return False
        integer = data.producer is not None and data.producer.op in ("dequantize", "log_dequantize")
        return integer or not self.only_integer

    def _pairs(self, target: Any) -> bool:
        if self.pairs != "auto" or self.scheme != "linear" or self.bits < 8:
            return self.pairs == "yes"
        return sums_saturate(target)

    def _store(self, graph: Graph, node: Node, axis: int, pair: int | None, floor: np.ndarray | None) -> Value:
        weights = node.input(1)
        array, dtype = weights.data, weights.type.dtype
        if not np.isfinite(array.astype(np.float64)).all():
            raise EdgeIRError("weights are infinite or NaN", where=f"{weights!r} of {node}")
        axes = (axis,) if self.per_channel else ()
        options: dict[str, Any] = {"before": node, "location": node.location}
        if self.scheme == "log2":
            scales = log_scales(array, axes, self.bits, dtype)
            scale = graph.add_constant(scales, f"{weights.name}_scale")
            attributes = {"bits": self.bits}
            if self.trainable:
                codes = graph.add_node("log_quantize", (weights, scale), attributes, **options).output
            else:
                codes = graph.add_constant(log_codes(array, scales, self.bits), f"{weights.name}_codes")
            return graph.add_node("log_dequantize", (codes, scale), attributes, **options).output
        kind = f"int{self.bits}"
        search = self.search == "yes" or (self.search == "auto" and self.bits < 8)
        scales = linear_scales(array, axes, kind, dtype, pair, search)
        if floor is not None:
            scales = np.maximum(scales, floor.astype(scales.dtype))
        scale = graph.add_constant(scales, f"{weights.name}_scale")
        zero = graph.add_constant(np.zeros((), numpy_dtype(kind)), f"{weights.name}_zero")
        if self.trainable:
            codes = graph.add_node("quantize", (weights, scale, zero), **options).output
        else:
            codes = graph.add_constant(linear_codes(array, scales, kind, pair), f"{weights.name}_quantized")
        return graph.add_node("dequantize", (codes, scale, zero), **options).output


def least_scales(node: Node, axis: int, per_channel: bool) -> np.ndarray | None:
    """The scales below which a convolution's bias would not fit the integer sums; None if there is no bias."""
    bias, data = node.inputs[2] if len(node.inputs) > 2 else None, node.input(0).producer
    if bias is None or not bias.is_constant or data is None or data.op != "dequantize" or node.op != "conv":
        return None
    scale = data.input(1)
    if not scale.is_constant or scale.data.size != 1:
        return None
    least = np.abs(bias.data.astype(np.float64)) / (float(scale.data.reshape(())) * _ACCUMULATOR)
    shape = [1] * node.input(1).type.rank
    shape[axis] = -1
    return least.reshape(shape) if per_channel else least.max(initial=0.0).reshape([1] * len(shape))


def output_axis(node: Node) -> int:
    """The axis of the weights along which output channels lie (those of one group for `conv_transpose`)."""
    if node.op == "conv":
        return 0
    if node.op == "conv_transpose":
        return 1
    return node.input(1).type.rank - (2 if node.attributes["transpose_b"] else 1)


def input_axis(node: Node) -> int | None:
    """The axis of the weights that is summed over first, where it has several elements; None for `conv_transpose`."""
    if node.op == "conv_transpose":
        return None
    rank = node.input(1).type.rank
    axis = 1 if node.op == "conv" else rank - (1 if node.attributes["transpose_b"] else 2)
    return axis if node.input(1).type.static_shape[axis] > 1 else None


def sums_saturate(target: Any) -> bool:
    """Whether a target's dot product of bytes adds pairs of products in 16 bits: x86 without VNNI."""
    vnni = ("avx512_vnni", "avx_vnni")
    if target is None or target.gpu is not None or target.architecture != "x86_64":
        return False
    return not any(target.has(name) for name in vnni)


def _producer(value: Value) -> Node:
    assert value.producer is not None
    return value.producer
