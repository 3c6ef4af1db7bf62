"""A graph's values on several samples at once, computed node by node from the inputs to where they are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeir.ir import Graph, Node, Value
from edgeir.ir.evaluate import check_inputs, evaluate_node

Arrays = Mapping[str, np.ndarray]


class SampleFront:
    """What lies between the nodes that were computed and those that were not; the graph may be edited behind it.

    Args:
        graph: of plain operators; symbolic dimensions take each sample's sizes.
        samples: input name → array, of the graph's types.

    Raises:
        EdgeIRError: a sample lacks an input, or one is of the wrong type.
    """

    def __init__(self, graph: Graph, samples: Sequence[Arrays]) -> None:
        self._nodes = iter(graph.nodes)
        self._reached: Node | None = None
        self._constants: dict[Value, np.ndarray] = {}
        self._arrays: dict[Value, list[np.ndarray]] = {
            value: [np.asarray(sample[value.name]) for sample in samples] for value in graph.inputs
        }
        self._computed: set[Node] = set()
        # Attributes and types may depend on a sample's sizes.
        bound: dict[tuple[tuple[str, int], ...], dict[Node, Node]] = {}
        self._twins: list[dict[Node, Node]] = []
        for sample in samples:
            sizes = check_inputs(graph, {value.name: sample[value.name] for value in graph.inputs})
            key = tuple(sorted(sizes.items()))
            if key not in bound:
                bound[key] = dict(zip(graph.nodes, graph.bind(sizes).nodes, strict=True)) if sizes else {}
            self._twins.append(bound[key])

    def advance(self, until: Node) -> None:
        """Computes all nodes before `until`, which is not yet computed."""
        while self._reached is not until:
            if self._reached is not None:
                self.compute(self._reached)
            # Fetched late, so that nodes are seen that an edit put here.
            self._reached = next(self._nodes)

    def step(self) -> list[np.ndarray]:
        """Computes the node reached; returns its first result on each sample, which may be edited in place."""
        node = self._reached
        assert node is not None
        self._reached = None
        return self.compute(node)

    def compute(self, node: Node) -> list[np.ndarray]:
        """Computes a node, perhaps again after an edit; its operands must still be there."""
        if all(value.is_constant or value in self._constants for value in node.present_inputs):
            arrays = [None if v is None else v.data if v.is_constant else self._constants[v] for v in node.inputs]
            self._constants.update(zip(node.outputs, evaluate_node(node, arrays), strict=True))
            return []
        results: list[list[np.ndarray]] = []
        for number, twins in enumerate(self._twins):
            arrays = [None if value is None else self._array(value, number) for value in node.inputs]
            results.append(evaluate_node(twins.get(node, node), arrays))
        found = [list(arrays) for arrays in zip(*results, strict=True)]
        self._arrays.update(zip(node.outputs, found, strict=True))
        self._computed.add(node)
        for value in (*node.present_inputs, *node.outputs):
            if value in self._arrays and all(user in self._computed for user in value.users):
                del self._arrays[value]
        return found[0]

    def arrays(self, value: Value) -> list[np.ndarray]:
        """A value on each sample; it must have been computed, and still have a reader that was not."""
        return [self._array(value, number) for number in range(len(self._twins))]

    def _array(self, value: Value, number: int) -> np.ndarray:
        if value.is_constant:
            return value.data
        return self._constants[value] if value in self._constants else self._arrays[value][number]
