"""Makes the channels between two layers equally large, so that one scale serves them all.

    %a = conv(%x, %w1, %b1) {…} : float32[1, 8, 8, 8]
    %r = relu(%a) : float32[1, 8, 8, 8]
    %y = conv(%r, %w2) {…} : float32[1, 4, 8, 8]

becomes

    %a = conv(%x, %w1/s, %b1/s) {…} : float32[1, 8, 8, 8]
    %r = relu(%a) : float32[1, 8, 8, 8]
    %y = conv(%r, %w2·s) {…} : float32[1, 4, 8, 8]

with s = √(r1 / r2), where r1 and r2 are the largest weights of a channel in the first and the second layer: Nagel, van
Baalen, Blankevoort, Welling, "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1. The network computes the same. clip(x, 0, 6) between the layers becomes minimum(relu(x), 6/s).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgeir.ir import Builder, Graph, Node, Value
from edgeir.passes.folding.channels import bias_of, why_not_linear
from edgeir.passmanager import Pass, PassContext, register_pass

_SETTLED = 1e-3


@register_pass
@dataclass(frozen=True)
class EqualizeCrossLayer(Pass):
    """Equalizes pairs of convolutions, and of products, with at most one ReLU, leaky ReLU or clip between them.

    Attributes:
        iterations: the most rounds over all pairs; a depthwise convolution is in two pairs.
        clip: whether clips become a minimum with one bound per channel; otherwise such pairs are left alone.
    """

    name: ClassVar[str] = "equalize-cross-layer"
    iterations: int = 20
    clip: bool = True

    def run(self, graph: Graph, context: PassContext) -> None:
        """Finds the pairs, iterates on copies of their weights, then replaces the constants."""
        pairs = [pair for node in graph.nodes if (pair := find_pair(node, self.clip)) is not None]
        weights: dict[Node, np.ndarray] = {
            node: node.input(1).data.astype(np.float64) for pair in pairs for node in (pair.first, pair.second)
        }
        for _ in range(self.iterations):
            steps = [pair.equalize(weights) for pair in pairs]
            if not steps or max(steps) < _SETTLED:
                break
        for pair in pairs:
            if (pair.scale != 1.0).any() and not context.permit(self.name, pair.first):
                # A pair half done would compute something else, so the rest of the pairs is undone in the copies.
                pair.undo(weights)
        for node, array in weights.items():
            _replace(graph, node, 1, array)
        for pair in pairs:
            _rescale(graph, pair)
        graph.remove_unused_constants()


@dataclass
class Pair:
    """Two layers, of which only the second reads the first.

    Attributes:
        first, second: the layers.
        activation: the node between them, or None.
        scale: by how much the channels between them have been divided so far.
    """

    first: Node
    second: Node
    activation: Node | None
    scale: np.ndarray = field(default_factory=lambda: np.ones(()))

    def equalize(self, weights: dict[Node, np.ndarray]) -> float:
        """One step on copies of the weights; returns the largest change of a channel's logarithm."""
        first, second = weights[self.first], weights[self.second]
        one, two = _largest(first, _output_axis(self.first)), _largest(second, _input_axis(self.second))
        live = (one > 0) & (two > 0) & np.isfinite(one) & np.isfinite(two)
        step = np.where(live, np.sqrt(np.where(live, one, 1.0) / np.where(live, two, 1.0)), 1.0)
        self._apply(weights, step)
        return float(np.abs(np.log(step)).max(initial=0.0))

    def undo(self, weights: dict[Node, np.ndarray]) -> None:
        """Takes all steps back."""
        self._apply(weights, 1.0 / self.scale)
        self.scale = np.ones_like(self.scale)

    def _apply(self, weights: dict[Node, np.ndarray], step: np.ndarray) -> None:
        first, second = weights[self.first], weights[self.second]
        weights[self.first] = first / _along(step, first.ndim, _output_axis(self.first))
        weights[self.second] = second * _along(step, second.ndim, _input_axis(self.second))
        self.scale = self.scale * step


def find_pair(first: Node, clip: bool = True) -> Pair | None:
    """The pair that a layer begins, or None."""
    if first.op not in ("conv", "matmul") or why_not_linear(first) is not None or not _own_weights(first):
        return None
    value, activation = first.output, None
    reader = _only_reader(value)
    if reader is not None and reader.op in ("relu", "leaky_relu", "clip"):
        if reader.op == "clip" and not (clip and reader.attributes["minimum"] == 0.0):
            return None
        value, activation = reader.output, reader
        reader = _only_reader(value)
    if reader is None or reader.op != first.op or reader.input(0) is not value:
        return None
    if why_not_linear(reader) is not None or not _own_weights(reader):
        return None
    if reader.op == "conv" and reader.attributes["groups"] > 1:
        depthwise = reader.input(1).data.shape[1] == 1 and reader.attributes["groups"] == reader.input(1).data.shape[0]
        if not depthwise:
            return None
    if first.op == "matmul" and (first.attributes["transpose_a"] or reader.attributes["transpose_a"]):
        return None
    return Pair(first, reader, activation)


def _only_reader(value: Value) -> Node | None:
    return None if value.is_output or value.use_count != 1 else value.users[0]


def _own_weights(node: Node) -> bool:
    bias = bias_of(node) if node.op == "conv" else None
    return node.input(1).use_count == 1 and (bias is None or bias.use_count == 1)


def _output_axis(node: Node) -> int:
    if node.op == "conv":
        return 0
    return 0 if node.attributes["transpose_b"] else 1


def _input_axis(node: Node) -> int:
    if node.op == "conv":
        # A depthwise convolution has its channels on the first axis.
        return 1 if node.attributes["groups"] == 1 else 0
    return 1 if node.attributes["transpose_b"] else 0


def _along(values: np.ndarray, rank: int, axis: int) -> np.ndarray:
    return values.reshape(*(1,) * axis, -1, *(1,) * (rank - axis - 1))


def _largest(weights: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(other for other in range(weights.ndim) if other != axis)
    return np.abs(weights).max(axis=others, initial=0.0)


def _replace(graph: Graph, node: Node, index: int, array: np.ndarray) -> None:
    old = node.input(index)
    if not np.array_equal(old.data, array):
        graph.set_input(node, index, graph.add_constant(array.astype(old.data.dtype), f"{old.name}_equalized"))


def _rescale(graph: Graph, pair: Pair) -> None:
    """The first layer's bias, and the bound of a clip."""
    if not (pair.scale != 1.0).any():
        return
    bias = bias_of(pair.first) if pair.first.op == "conv" else None
    if bias is not None:
        _replace(graph, pair.first, 2, bias.data / pair.scale)
    node = pair.activation
    if node is None or node.op != "clip":
        return
    builder = Builder(graph, before=node, location=node.location)
    result = builder.relu(node.input(0))
    upper = node.attributes["maximum"]
    if upper is not None:
        rank = node.output.type.rank
        bound = _along(upper / pair.scale, rank - 1, 0) if pair.first.op == "conv" else upper / pair.scale
        dtype = pair.first.input(1).data.dtype
        result = builder.minimum(result, builder.constant(bound.astype(dtype), f"{node.output.name}_bound"))
    graph.replace_node(node, [result])
