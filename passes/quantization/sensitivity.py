"""How much each layer's rounding harms the outputs, measured on one network whose roundings can be switched.

Every rounding d of a float value v becomes where(switch, d, v), the switches being inputs. The network so is made ready
to run once, however many combinations are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeir.ir import Builder, Graph, Node, TensorType, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.passes.folding.channels import channel_axis
from edgeir.passes.quantization.calibration import Arrays, Execute
from edgeir.passes.quantization.correct_bias import added_per_channel
from edgeir.passes.quantization.placement import Placement, plan

FLOAT = 0
"""The precision, in bits of a weight, of a layer that is not rounded."""

_DECODERS = ("dequantize", "log_dequantize")
_ENCODERS = ("quantize", "log_quantize")

Precisions = Mapping[str, int]
"""Name of a layer's result → bits of its weights; `FLOAT` leaves its weights and what only it reads in float."""


@dataclass(frozen=True)
class Harm:
    """What one layer's rounding does alone.

    Attributes:
        layer: name of the layer's result.
        noise: power of the outputs' change by power of the outputs, over all samples.
    """

    layer: str
    noise: float


class SwitchedNetwork:
    """A float graph with all its roundings, each behind a switch.

    Args:
        original: the float graph.
        quantized: bits of a weight → the graph quantized with such weights; names of values are the original's.
        placement: how the quantized graphs were made.
        skip: operators or names that are float in all of them.
        execute: makes a graph ready to run.
    """

    def __init__(
        self,
        original: Graph,
        quantized: Mapping[int, Graph],
        placement: Placement,
        skip: Collection[str],
        execute: Execute,
    ) -> None:
        self.original, self.skip = original, tuple(skip)
        self.placement: Placement = placement
        found = plan(original, placement, skip)
        self.layers = tuple(node.output.name for node in original.nodes if node in found.layers)
        self._values = {value.name for value in found.values}
        graph = next(iter(quantized.values())).copy()
        self._switches: dict[tuple[int, str], str] = {}
        self._switch_activations(graph)
        self._switch_weights(graph, quantized)
        self._switch_biases(graph, quantized)
        graph.remove_unused_constants()
        self._run = execute(graph)

    def run(self, precisions: Precisions) -> Callable[[Arrays], Arrays]:
        """The network with these precisions; layers that are not named are float."""
        skip = [*self.skip, *(name for name in self.layers if not precisions.get(name, FLOAT))]
        rounded = {value.name for value in plan(self.original, self.placement, skip).values}
        return self._with(rounded, precisions)

    def run_alone(self, layer: str, bits: int) -> Callable[[Arrays], Arrays]:
        """The network with one layer's weights and input rounded, and nothing else."""
        return self._with({self._layer(layer).input(0).name}, {layer: bits})

    def _with(self, rounded: Collection[str], precisions: Precisions) -> Callable[[Arrays], Arrays]:
        switches = {
            switch: np.array(key in rounded if bits == FLOAT else precisions.get(key, FLOAT) == bits)
            for (bits, key), switch in self._switches.items()
        }
        return lambda inputs: self._run({**inputs, **switches})

    def _layer(self, name: str) -> Node:
        node = self.original.value(name).producer
        assert node is not None
        return node

    def _switch(self, graph: Graph, bits: int, name: str) -> Value:
        value = graph.add_input(graph.fresh_name("switch"), TensorType("bool", ()))
        self._switches[bits, name] = value.name
        return value

    def _switch_activations(self, graph: Graph) -> None:
        for name in sorted(self._values):
            value = graph.value(name)
            rounder = next(node for node in value.users if node.op in _ENCODERS)
            decoder = next(node for node in rounder.output.users if node.op in _DECODERS)
            rounded = decoder.output
            uses = rounded.uses
            reader = min((node for node, _ in uses), key=lambda node: node._order)
            chosen = Builder(graph, before=reader).where(self._switch(graph, FLOAT, name), rounded, value)
            for node, index in uses:
                graph.set_input(node, index, chosen)

    def _switch_biases(self, graph: Graph, quantized: Mapping[int, Graph]) -> None:
        """Where biases make up for rounded weights, each is added with those weights only."""
        first = next(iter(quantized))
        for name in self.layers:
            own = added_per_channel(self._layer(name))
            added = {bits: self._added(other, name) - own for bits, other in quantized.items()}
            if not any(change.any() for change in added.values()):
                continue
            value = graph.value(name)
            uses, node = value.uses, value.producer
            assert node is not None
            following = min((user for user, _ in uses), key=lambda user: user._order, default=None)
            b = Builder(graph, before=following)
            shape = (-1, *(1,) * (value.type.rank - 1 - channel_axis(node)))
            dtype = numpy_dtype(value.type.dtype)
            # The graph is made of the first variant, whose biases are corrected already.
            total = b.constant((-added[first]).reshape(shape).astype(dtype))
            for bits, change in added.items():
                if (bits, name) in self._switches:
                    with_change = b.add(total, b.constant(change.reshape(shape).astype(dtype)))
                    total = b.where(graph.value(self._switches[bits, name]), with_change, total)
            result = b.add(value, total)
            for user, index in uses:
                graph.set_input(user, index, result)
            if value.is_output:
                outputs = zip(graph.output_names, graph.outputs, strict=True)
                graph.set_outputs([(key, result if output is value else output) for key, output in outputs])

    @staticmethod
    def _added(graph: Graph, name: str) -> np.ndarray:
        node = graph.value(name).producer
        assert node is not None
        return added_per_channel(node)

    def _switch_weights(self, graph: Graph, quantized: Mapping[int, Graph]) -> None:
        for name in self.layers:
            node = graph.value(name).producer
            assert node is not None
            b = Builder(graph, before=node)
            chosen = b.constant(self._layer(name).input(1).data) if self._layer(name).input(1).is_constant else None
            if chosen is None:
                continue
            for bits, other in quantized.items():
                twin = other.value(name).producer
                decoder = None if twin is None else twin.input(1).producer
                if decoder is None or decoder.op not in _DECODERS:
                    continue
                constants = [b.constant(value.data) for value in decoder.present_inputs]
                rounded = b.node(decoder.op, *constants, **decoder.attributes).output
                chosen = b.where(self._switch(graph, bits, name), rounded, chosen)
            graph.set_input(node, 1, chosen)


def rank_layers(
    network: SwitchedNetwork, bits: int, samples: Sequence[Arrays], references: Sequence[Arrays]
) -> list[Harm]:
    """Every layer's harm alone, the worst first.

    Args:
        network: the switches.
        bits: of the weights.
        samples: input name → array.
        references: the float network's outputs for them.
    """
    found = []
    for layer in network.layers:
        run = network.run_alone(layer, bits)
        signal, noise = 0.0, 0.0
        for sample, expected in zip(samples, references, strict=True):
            got = run(sample)
            for name, array in expected.items():
                wide = array.astype(np.float64)
                signal += float((wide**2).sum())
                noise += float(((got[name].astype(np.float64) - wide) ** 2).sum())
        found.append(Harm(layer, noise / signal if signal else noise))
    return sorted(found, key=lambda harm: -harm.noise)
