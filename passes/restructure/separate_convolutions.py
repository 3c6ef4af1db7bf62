"""Replaces standard convolutions by depthwise and pointwise ones.

    %y = conv(%x, %w, %b) {padding = [1, 1, 1, 1]} : float32[1, 64, 56, 56]

becomes, with weights of 3×3 for each of 32 input channels and multiplier 1,

    %d = conv(%x, %w_depthwise) {padding = [1, 1, 1, 1], groups = 32} : float32[1, 32, 56, 56]
    %y = conv(%d, %w_pointwise, %b) : float32[1, 64, 56, 56]

Together they amount to Ŵ[o, c, k] = Σ_m P[o, c, m]·D[c, m, k]: for every input channel c a matrix (outputs × kernel
positions) of rank `multiplier`, whose best choice is the singular value decomposition's. What is lost is meant to be
won back by fine-tuning or distillation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Node, Value
from edgeir.passes.restructure.approximation import (
    Plan,
    Replaced,
    check_open_share,
    factors,
    float_weights,
    relative_error,
    replace_layers,
)
from edgeir.passmanager import Pass, PassContext, register_pass


@register_pass
@dataclass(frozen=True)
class SeparateConvolutions(Pass):
    """Replaces standard convolutions by depthwise and pointwise ones, where that needs fewer multiplications.

    Attributes:
        multiplier: depthwise filters for each input channel.
        tolerance: layers whose weights would change by more than this share (Frobenius norm) stay.
    """

    name: ClassVar[str] = "separate-convolutions"

    multiplier: int = 1
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            EdgeIRError: one is out of range.
        """
        if self.multiplier < 1:
            raise EdgeIRError("multiplier is out of range", where=self.name, expected="≥ 1", got=self.multiplier)
        check_open_share(self.name, "tolerance", self.tolerance)

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph, and hands a `RestructuringReport` to the service "restructuring-report"."""
        replace_layers(graph, context, self.name, self._plan)

    def _plan(self, node: Node) -> Plan | str | None:
        if node.op != "conv":
            return None
        if node.attributes["groups"] != 1:
            return "it is grouped already"
        weights = float_weights(node)
        if isinstance(weights, str):
            return weights
        outputs, channels, *kernel = weights.shape
        positions = math.prod(kernel)
        if positions == 1:
            return "its kernel is a point"
        rank = min(self.multiplier, outputs, positions)
        before, after = outputs * channels * positions, channels * rank * (positions + outputs)
        if after >= before:
            return f"two layers would multiply {after} times for each position, not {before}"
        matrices = weights.reshape(outputs, channels, positions).transpose(1, 0, 2)
        pointwise, depthwise = factors(matrices, rank)
        error = relative_error(matrices, pointwise @ depthwise)
        if error > self.tolerance:
            return f"the weights would change by {error:.3f}"
        dtype = node.input(1).data.dtype
        first = depthwise.reshape(channels * rank, 1, *kernel).astype(dtype)
        second = pointwise.transpose(1, 0, 2).reshape(outputs, channels * rank, *(1,) * len(kernel)).astype(dtype)

        def build(builder: Builder) -> Value:
            return two_convolutions(builder, node, first, second, groups=channels)

        return Plan(build, Replaced(node.output.name, rank, error, after, before))


def two_convolutions(builder: Builder, node: Node, first: np.ndarray, second: np.ndarray, groups: int) -> Value:
    """A convolution with the node's window and weights `first`, then a pointwise one with `second` and the bias."""
    name = node.input(1).name
    inner = builder.conv(
        node.input(0), builder.constant(first, f"{name}_first"), **{**node.attributes, "groups": groups}
    )
    rank = second.ndim - 2
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    operands = [inner, builder.constant(second, f"{name}_second"), *([] if bias is None else [bias])]
    return builder.conv(*operands, strides=(1,) * rank, padding=(0,) * 2 * rank, dilations=(1,) * rank, groups=1)
