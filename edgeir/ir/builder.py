"""A short way to write graphs by hand: `b.relu(b.conv(x, w, padding=(1, 1, 1, 1)))`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph
from edgeir.ir.types import TensorType, parse_type
from edgeir.ir.values import Node, Value


class Builder:
    """Appends nodes to a graph (or inserts them before a node). Every operator is a method.

        b = Builder("net")
        x = b.input("x", "float32[1, 3, 8, 8]")
        graph = b.outputs(y=b.relu(x))

    A numpy array or scalar among the operands becomes a constant.
    """

    def __init__(self, graph: Graph | str = "graph", *, before: Node | None = None, location: str = "") -> None:
        self.graph = Graph(graph) if isinstance(graph, str) else graph
        self.before = before
        self.location = location

    def input(self, name: str, type: TensorType | str) -> Value:
        """Adds a graph input."""
        return self.graph.add_input(name, parse_type(type) if isinstance(type, str) else type)

    def constant(self, array: np.ndarray | np.generic, name: str = "constant", layout: str = "") -> Value:
        """Adds a constant."""
        return self.graph.add_constant(np.asarray(array), name, layout)

    def node(
        self,
        op: str,
        *inputs: Value | np.ndarray | np.generic | None,
        name: str = "",
        output_layout: str | None = None,
        **attributes: Any,
    ) -> Node:
        """Adds a node; `name` names its first output, `output_layout` chooses its output's layout."""
        operands = [self.constant(item) if isinstance(item, np.ndarray | np.generic) else item for item in inputs]
        return self.graph.add_node(
            op,
            operands,
            attributes,
            names=[name] if name else [],
            before=self.before,
            location=self.location,
            output_layouts=None if output_layout is None else [output_layout],
        )

    def outputs(self, **values: Value) -> Graph:
        """Sets the graph's outputs and returns the graph."""
        self.graph.set_outputs(values)
        return self.graph

    def __getattr__(self, op: str) -> Callable[..., Value]:
        if op.startswith("__"):
            raise AttributeError(op)

        def build(*inputs: Value | np.ndarray | np.generic | None, **keywords: Any) -> Value:
            node = self.node(op.rstrip("_"), *inputs, **keywords)
            if len(node.outputs) != 1:
                raise EdgeIRError(f"{op} has {len(node.outputs)} outputs", hint=f"use node({op!r}, …).outputs")
            return node.output

        return build
