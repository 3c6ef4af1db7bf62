"""The part of a graph that reads: its values and nodes, and the checks that edits make first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import networkx

from edgeir.errors import EdgeIRError
from edgeir.ir.inference import infer_types
from edgeir.ir.order import NodeOrder
from edgeir.ir.values import Node, Value

Listener = Callable[[str, Node], None]
"""Called with "insert", "erase" or "change" and the node, after the edit."""


class GraphReader:
    """What a graph holds, for reading. `Graph` adds the edits."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self._inputs: list[Value] = []
        self._constants: dict[Value, None] = {}
        self._outputs: list[tuple[str, Value]] = []
        self._order = NodeOrder()
        self._names: dict[str, Value] = {}
        self._next_suffix: dict[str, int] = {}
        self._listeners: list[Listener] = []
        self.version = 0

    # Reading

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Input values in order."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Output values in order; a value may appear twice, and may be an input or a constant."""
        return tuple(value for _, value in self._outputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """External names of the outputs; they stay the same whatever passes do to the values."""
        return tuple(name for name, _ in self._outputs)

    @property
    def constants(self) -> tuple[Value, ...]:
        """Constants in order of creation."""
        return tuple(self._constants)

    @property
    def nodes(self) -> Iterator[Node]:
        """Nodes in order."""
        return iter(self._order)

    @property
    def reversed_nodes(self) -> Iterator[Node]:
        """Nodes from last to first."""
        return reversed(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def value(self, name: str) -> Value:
        """The value called `name`.

        Raises:
            EdgeIRError: there is none.
        """
        try:
            return self._names[name]
        except KeyError:
            raise EdgeIRError("no value of this name", got=name, where=f"graph {self.name}") from None

    def comes_before(self, first: Node, second: Node) -> bool:
        """Whether `first` stands before `second` in the order."""
        return first._order < second._order

    def to_networkx(self) -> networkx.DiGraph:
        """Nodes as vertices, an edge where one uses a result of the other (attribute `values`: those results)."""
        result: networkx.DiGraph = networkx.DiGraph()
        for node in self.nodes:
            result.add_node(node)
            for value in node.present_inputs:
                if value.producer is not None:
                    if result.has_edge(value.producer, node):
                        result[value.producer][node]["values"].append(value)
                    else:
                        result.add_edge(value.producer, node, values=[value])
        return result

    def fresh_name(self, stem: str) -> str:
        """A name not yet in use: `stem`, or `stem_1`, `stem_2`, …"""
        if stem and stem not in self._names:
            return stem
        count = self._next_suffix.get(stem, 1)
        while f"{stem}_{count}" in self._names:
            count += 1
        self._next_suffix[stem] = count + 1
        return f"{stem}_{count}"

    # Checks and links

    def _own(self, value: Value) -> None:
        if value._graph is not self:
            raise EdgeIRError("value does not belong to this graph", where=f"graph {self.name}", got=repr(value))

    def _check_node(self, node: Node) -> None:
        if node._graph is not self:
            raise EdgeIRError("node does not belong to this graph", where=f"graph {self.name}", got=str(node))

    def _check_new_name(self, name: str) -> None:
        if not name or name in self._names:
            raise EdgeIRError("a value needs a name of its own", where=f"graph {self.name}", got=repr(name))

    def _check_before(self, value: Value, node: Node | None) -> None:
        producer = value.producer
        if producer is not None and node is not None and producer._order >= node._order:
            raise EdgeIRError("a value must be computed before it is used", where=str(node), got=repr(value))

    def _check_types(self, node: Node, operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> None:
        layouts = [value.type.layout for value in node.outputs]
        types = infer_types(node.definition, operands, attributes, layouts)
        have = [value.type for value in node.outputs]
        if list(types) != have:
            raise EdgeIRError(
                "the edit would change the node's output types",
                where=str(node),
                expected=", ".join(map(str, have)),
                got=", ".join(map(str, types)),
                hint="add a new node and replace the old one",
            )

    def _notify(self, event: str, node: Node) -> None:
        self.version += 1
        for listener in self._listeners:
            listener(event, node)
