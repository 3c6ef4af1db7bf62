"""Values and nodes: the parts of a graph, with use lists. They are changed through `Graph` only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.op import Op, find_op
from edgeir.ir.types import TensorType

if TYPE_CHECKING:
    from edgeir.ir.graph import Graph


class Value:
    """A tensor in a graph: a graph input, a constant, or a result of a node.

    Attributes:
        name: unique in its graph.
        type: element type, shape and layout.
        producer: the node that computes it; None for inputs and constants.
        index: position among the producer's outputs (or the graph's inputs).
    """

    __slots__ = ("_data", "_digest", "_graph", "_output_uses", "_uses", "index", "name", "producer", "type")

    def __init__(self, graph: Graph, name: str, type: TensorType, producer: Node | None, index: int) -> None:
        self._graph: Graph | None = graph
        self.name = name
        self.type = type
        self.producer = producer
        self.index = index
        self._uses: dict[tuple[Node, int], None] = {}
        self._output_uses = 0
        self._data: np.ndarray | None = None
        self._digest: str | None = None

    @property
    def uses(self) -> tuple[tuple[Node, int], ...]:
        """Each use by a node: the node and the position among its inputs."""
        return tuple(self._uses)

    @property
    def use_count(self) -> int:
        """Number of uses by nodes."""
        return len(self._uses)

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that use it, each once, in order of first use."""
        return tuple(dict.fromkeys(node for node, _ in self._uses))

    @property
    def is_output(self) -> bool:
        """Whether the graph returns it."""
        return self._output_uses > 0

    @property
    def is_used(self) -> bool:
        """Whether a node or the graph's outputs use it."""
        return bool(self._uses) or self._output_uses > 0

    @property
    def is_constant(self) -> bool:
        """Whether its data is part of the graph."""
        return self._data is not None

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the graph."""
        return self.producer is None and self._data is None

    @property
    def data(self) -> np.ndarray:
        """The constant's array: logical shape whatever the layout, read-only, possibly shared.

        Raises:
            EdgeIRError: the value is not a constant.
        """
        if self._data is None:
            raise EdgeIRError("value is not a constant", where=f"%{self.name}")
        return self._data

    @property
    def digest(self) -> str:
        """SHA-256 (first 16 hex digits) of the constant's type and bytes; computed once."""
        if self._digest is None:
            header = f"{self.data.dtype.name}{self.data.shape}".encode()
            self._digest = hashlib.sha256(header + np.ascontiguousarray(self.data).tobytes()).hexdigest()[:16]
        return self._digest

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


class Node:
    """One operation. Read it freely; change it through its graph.

    Attributes:
        op: name of the operator.
        attributes: canonical attribute values, defaults filled in; do not mutate (`Graph.set_attributes`).
        outputs: result values.
        location: where it comes from: the node's name in the imported model, for messages.
    """

    __slots__ = ("_graph", "_inputs", "_next", "_order", "_previous", "attributes", "location", "op", "outputs")

    def __init__(self, graph: Graph, op: str, inputs: tuple[Value | None, ...], location: str) -> None:
        self._graph: Graph | None = graph
        self.op = op
        self._inputs = inputs
        self.attributes: Mapping[str, Any] = {}
        self.outputs: tuple[Value, ...] = ()
        self.location = location
        self._previous: Node | None = None
        self._next: Node | None = None
        self._order = 0

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """Operands in order; None where an optional one is absent."""
        return self._inputs

    @property
    def present_inputs(self) -> tuple[Value, ...]:
        """Operands that are there."""
        return tuple(value for value in self._inputs if value is not None)

    def input(self, index: int) -> Value:
        """The operand at `index`, which must be there.

        Raises:
            EdgeIRError: it is absent.
        """
        value = self._inputs[index] if index < len(self._inputs) else None
        if value is None:
            raise EdgeIRError(f"{self.op} has no input {index}", where=str(self))
        return value

    @property
    def output(self) -> Value:
        """The only output.

        Raises:
            EdgeIRError: the node has several outputs.
        """
        if len(self.outputs) != 1:
            raise EdgeIRError(f"{self.op} has {len(self.outputs)} outputs", where=str(self))
        return self.outputs[0]

    @property
    def definition(self) -> Op:
        """The operator's definition."""
        return find_op(self.op)

    @property
    def graph(self) -> Graph:
        """The graph that it stands in.

        Raises:
            EdgeIRError: it was erased.
        """
        if self._graph is None:
            raise EdgeIRError("the node was erased", where=str(self))
        return self._graph

    @property
    def is_alive(self) -> bool:
        """Whether it still stands in a graph."""
        return self._graph is not None

    def __str__(self) -> str:
        outputs = ", ".join(f"%{value.name}" for value in self.outputs)
        operands = ", ".join("_" if value is None else f"%{value.name}" for value in self._inputs)
        place = f" @{self.location}" if self.location else ""
        return f"{outputs} = {self.op}({operands}){place}"

    __repr__ = __str__
