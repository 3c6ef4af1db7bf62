"""Turns a transposed convolution into a convolution and an interleaving of its channels.

    %y = conv_transpose(%x, %w) {strides = [2, 2], …} : float32[1, 24, 160, 160]

becomes

    %c = conv(%x, %phases) {strides = [1, 1], …} : float32[1, 96, 80, 80]
    %r = reshape(%c) : float32[1, 24, 2, 2, 80, 80]
    %t = transpose(%r) {perm = [0, 1, 4, 2, 5, 3]} : float32[1, 24, 80, 2, 80, 2]
    %y = reshape(%t) : float32[1, 24, 160, 160]

Output positions that are equal modulo the stride (a phase) see the same weights, so each phase is a convolution at
stride 1 over the input, with every stride-th weight reversed (the sub-pixel view: Shi et al., "Is the deconvolution
layer the same as a convolutional layer?", 2016, section 2). With p = o + padding, q = ⌊p / s⌋ and r = p mod s:
y[o] = Σ_j x[q − j] · w[r + s·j].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeir.ir import Graph, Node
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, op


@dataclass(frozen=True)
class Axis:
    """One spatial axis: stride, kernel and sizes of the transposed convolution."""

    stride: int
    kernel: int
    begin: int
    size_in: int
    size_out: int

    @property
    def taps(self) -> int:
        """Weights per phase; phases with fewer are filled with zeros."""
        return math.ceil(self.kernel / self.stride)

    @property
    def first(self) -> int:
        """The first q that the output needs."""
        return self.begin // self.stride

    @property
    def last(self) -> int:
        """The last q that the output needs."""
        return (self.size_out - 1 + self.begin) // self.stride

    @property
    def count(self) -> int:
        """Number of q positions."""
        return self.last - self.first + 1

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after the input that the convolution reads."""
        return self.taps - 1 - self.first, self.last - (self.size_in - 1)


def axes_of(node: Node) -> list[Axis]:
    """The spatial axes of a transposed convolution of fixed shape."""
    x, w, y = node.input(0).type.static_shape, node.input(1).type.static_shape, node.output.type.static_shape
    strides, padding = node.attributes["strides"], node.attributes["padding"]
    return [Axis(strides[i], w[i + 2], padding[i], x[i + 2], y[i + 2]) for i in range(len(strides))]


def phase_weights(w: np.ndarray, axes: list[Axis], groups: int) -> np.ndarray:
    """(C, O/g, *K) → (O·Πs, C/g, *taps): for every output channel its phases, weights reversed and zero-filled."""
    channels, out = w.shape[:2]
    grouped = w.reshape(groups, channels // groups, out, *w.shape[2:])
    rank = len(axes)
    extra = [(0, axis.taps * axis.stride - axis.kernel) for axis in axes]
    grouped = np.pad(grouped, [(0, 0)] * 3 + extra)
    # Each kernel axis k = tap·stride + phase becomes (tap, phase); taps are reversed.
    split = grouped.reshape(groups, channels // groups, out, *(n for axis in axes for n in (axis.taps, axis.stride)))
    taps = [3 + 2 * i for i in range(rank)]
    split = np.flip(split, axis=tuple(taps))
    order = (0, 2, *(4 + 2 * i for i in range(rank)), 1, *taps)
    phases = math.prod(axis.stride for axis in axes)
    shape = (groups * out * phases, channels // groups, *(axis.taps for axis in axes))
    return np.ascontiguousarray(split.transpose(order)).reshape(shape)


def weights_of(node: Node) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Constant weights, and where they are dequantized (zero point 0) their scale: a scalar or one per channel (O).

    None if the weights are not constant, or dequantized in another way.
    """
    value = node.input(1)
    if value.is_constant:
        return value.data, None
    producer = value.producer
    if producer is None or producer.op != "dequantize" or len(producer.present_inputs) > 2:
        return None
    w, scale = producer.input(0), producer.input(1)
    if not (w.is_constant and scale.is_constant):
        return None
    if scale.data.size == 1:
        return w.data, scale.data.reshape(())
    per_channel = (1, w.data.shape[1], *(1,) * (w.data.ndim - 2))
    return (
        (w.data, scale.data.reshape(-1)) if scale.data.shape == per_channel and node.attributes["groups"] == 1 else None
    )


class ConvTransposeRule(RewriteRule):
    """conv_transpose(x, w, b) → interleave(conv(x, phases of w, b)), cropped to the output."""

    name = "conv-transpose-to-conv"
    pattern = op("conv_transpose", name="root")

    def check(self, match: Match) -> str | None:
        """Constant weights, fixed shapes, no dilation, and an input of which nothing is cropped."""
        node = match.root
        if weights_of(node) is None or not all(v.is_constant for v in node.present_inputs[2:]):
            return "weights or bias are not constant"
        if not (node.input(0).type.is_static and node.output.type.is_static) or node.output.type.elements == 0:
            return "the shapes are not fixed"
        if any(step != 1 for step in node.attributes["dilations"]):
            return "it is dilated"
        if any(pad < 0 for axis in axes_of(node) for pad in axis.padding):
            return "the output does not reach all of the input"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Convolves, interleaves, crops."""
        node = match.root
        axes, groups = axes_of(node), node.attributes["groups"]
        rank, phases = len(axes), math.prod(axis.stride for axis in axes)
        found = weights_of(node)
        assert found is not None
        w, scale = found
        weights = rewriter.constant(phase_weights(w, axes, groups), f"{node.input(1).name}_phases")
        if scale is not None:
            repeated = scale if scale.ndim == 0 else np.repeat(scale, phases).reshape(-1, *(1,) * (rank + 1))
            weights = rewriter.add("dequantize", weights, rewriter.constant(repeated, "scale"))
        operands: list[Any] = [node.input(0), weights]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = node.input(2)
            operands.append(rewriter.constant(np.repeat(bias.data, phases), f"{bias.name}_phases"))
        pads = [axis.padding for axis in axes]
        y = rewriter.add(
            "conv",
            *operands,
            strides=(1,) * rank,
            dilations=(1,) * rank,
            padding=(*(begin for begin, _ in pads), *(end for _, end in pads)),
            groups=groups,
        )
        if phases > 1:
            batch, out = node.output.type.static_shape[:2]
            counts, strides = [axis.count for axis in axes], [axis.stride for axis in axes]
            y = rewriter.add("reshape", y, shape=(batch, out, *strides, *counts))
            perm = (0, 1, *(axis for i in range(rank) for axis in (2 + rank + i, 2 + i)))
            y = rewriter.add("transpose", y, perm=perm)
            full = tuple(count * stride for count, stride in zip(counts, strides, strict=True))
            y = rewriter.add("reshape", y, shape=(batch, out, *full))
        if y.type != node.output.type:
            starts = (0, 0, *(axis.begin - axis.first * axis.stride for axis in axes))
            sizes = node.output.type.static_shape
            y = rewriter.add("slice", y, starts=starts, sizes=sizes, steps=(1,) * len(sizes))
        rewriter.replace(y)


@register_pass
@dataclass(frozen=True)
class DecomposeConvTranspose(Pass):
    """Rewrites transposed convolutions as convolutions, which have fast kernels on every target."""

    name: ClassVar[str] = "decompose-conv-transpose"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        context.apply(graph, (ConvTransposeRule(),))
