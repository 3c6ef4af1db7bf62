"""Rewrite rules, and the rewriter through which they edit a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.ir import Graph, Node, Value
from edgeir.rewrite.pattern import Match, OpPattern


class Rewriter:
    """Edits a graph around one matched root: new nodes stand right before it and inherit its location."""

    def __init__(self, graph: Graph, root: Node) -> None:
        self.graph = graph
        self.root = root
        self._names = [value.name for value in root.outputs]
        self._created: set[Node] = set()

    def node(
        self,
        op: str,
        *inputs: Value | None,
        name: str = "",
        location: str | None = None,
        layouts: Sequence[str] | None = None,
        **attributes: Any,
    ) -> Node:
        """Adds a node before the root.

        Args:
            op: operator.
            inputs: operands.
            name: wanted name of the first output.
            location: where it comes from; the root's location if None.
            layouts: output layouts, for operators that leave the choice open.
            attributes: attribute values.

        Raises:
            EdgeIRError: as `Graph.add_node`.
        """
        node = self.graph.add_node(
            op,
            inputs,
            attributes,
            names=[name] if name else [],
            before=self.root,
            location=self.root.location if location is None else location,
            output_layouts=layouts,
        )
        self._created.add(node)
        return node

    def add(
        self, op: str, *inputs: Value | None, name: str = "", location: str | None = None, **attributes: Any
    ) -> Value:
        """Adds a node with one output before the root; returns the output."""
        return self.node(op, *inputs, name=name, location=location, **attributes).output

    def constant(self, array: np.ndarray, name: str = "constant") -> Value:
        """Adds a constant."""
        return self.graph.add_constant(np.asarray(array), name)

    def replace(self, *values: Value) -> None:
        """Makes users of the root's results read `values`, and erases the root; new values take over its names.

        Raises:
            EdgeIRError: number or types differ.
        """
        self.graph.replace_node(self.root, values)
        for name, value in zip(self._names, values, strict=True):
            if value.producer in self._created and value.name != name:
                self.graph.rename(value, self.graph.fresh_name(name))

    def set_attributes(self, node: Node, **changes: Any) -> None:
        """Changes attributes of a node whose output types stay the same."""
        self.graph.set_attributes(node, {**node.attributes, **changes})


class RewriteRule(ABC):
    """A local rewrite: where it fits, why it may not be done there, and how it is done.

    Class attributes:
        name: kebab-case; appears in counts and messages.
        pattern: what to look for.
    """

    name: ClassVar[str]
    pattern: ClassVar[OpPattern]

    def check(self, match: Match) -> str | None:
        """Why the rule may not be applied here; None if it may."""
        return None

    @abstractmethod
    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Does it. Called only after `check` found nothing against it."""
