"""Patterns over small pieces of a graph, written from the root towards the operands.

    op("relu", op("add", anything("x"), constant("c"), single_use=True))

matches a relu of an add of a constant on either side, where nothing else reads the add.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeir.ir import Node, Value

COMMUTATIVE: frozenset[str] = frozenset(
    {"add", "mul", "minimum", "maximum", "equal", "logical_and", "logical_or", "logical_xor"}
    | {"bitwise_and", "bitwise_or", "bitwise_xor"}
)
"""Operators whose two operands a pattern may find in either order."""


@dataclass
class Match:
    """What a pattern found.

    Attributes:
        root: the node that the pattern's root matched.
        nodes: named operator patterns → the nodes that they matched.
        values: named patterns → values (of an operator pattern: the value that the pattern's user reads).
    """

    root: Node
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Value:
        """The value matched by the pattern of that name."""
        return self.values[name]

    def node(self, name: str) -> Node:
        """The node matched by the operator pattern of that name."""
        return self.nodes[name]

    def array(self, name: str) -> np.ndarray:
        """The array of the constant matched under that name."""
        return self.values[name].data


Bindings = tuple[dict[str, Value], dict[str, Node]]


class OperandPattern(ABC):
    """Matches a value."""

    name: str = ""

    @abstractmethod
    def matches(self, value: Value | None, bindings: Bindings) -> Iterator[Bindings]:
        """Each way in which the value matches, as extended bindings (never changed in place)."""

    @property
    def depth(self) -> int:
        """Levels of operators in the pattern."""
        return 0


def _bind(bindings: Bindings, name: str, value: Value, node: Node | None = None) -> Bindings | None:
    """The bindings with one more name; None where the name already stands for another value."""
    values, nodes = bindings
    if not name:
        return bindings
    if name in values:
        return bindings if values[name] is value else None
    return values | {name: value}, nodes if node is None else nodes | {name: node}


@dataclass(frozen=True)
class AnyPattern(OperandPattern):
    """Any value that is there; the same name twice asks for the same value twice."""

    name: str = ""
    where: Callable[[Value], bool] | None = None

    def matches(self, value: Value | None, bindings: Bindings) -> Iterator[Bindings]:
        """One way, if the predicate holds."""
        if value is not None and (self.where is None or self.where(value)):
            bound = _bind(bindings, self.name, value)
            if bound is not None:
                yield bound


@dataclass(frozen=True)
class OpPattern(OperandPattern):
    """A result of an operator with given operands and attributes."""

    ops: tuple[str, ...]
    operands: tuple[OperandPattern, ...] | None
    name: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    where: Callable[[Node], bool] | None = None
    single_use: bool = False

    @property
    def depth(self) -> int:
        """Levels of operators in the pattern."""
        return 1 + max((operand.depth for operand in self.operands or ()), default=0)

    def matches(self, value: Value | None, bindings: Bindings) -> Iterator[Bindings]:
        """Each way of assigning operands."""
        if value is None or value.producer is None or (self.single_use and not single_use(value)):
            return
        bound = _bind(bindings, self.name, value, value.producer)
        if bound is not None:
            yield from self.matches_node(value.producer, bound)

    def matches_node(self, node: Node, bindings: Bindings) -> Iterator[Bindings]:
        """Each way in which the node itself matches."""
        if node.op not in self.ops or (self.where is not None and not self.where(node)):
            return
        for key, wanted in self.attributes.items():
            found = node.attributes.get(key)
            if not (wanted(found) if callable(wanted) else found == wanted):
                return
        if self.operands is None:
            yield bindings
            return
        inputs = node.inputs
        if len(inputs) < len(self.operands):
            return
        yield from _match_all(self.operands, inputs, bindings)
        if len(self.operands) == 2 and node.op in COMMUTATIVE:
            yield from _match_all(self.operands, inputs[::-1], bindings)

    def match(self, root: Node) -> Match | None:
        """The first way in which the pattern matches with this node as its root."""
        if root.op not in self.ops:
            return None
        for values, nodes in self.matches_node(root, ({}, {})):
            named = {self.name: root} if self.name else {}
            return Match(root, nodes | named, values)
        return None


def _match_all(
    patterns: tuple[OperandPattern, ...], values: tuple[Value | None, ...], bindings: Bindings
) -> Iterator[Bindings]:
    if not patterns:
        yield bindings
        return
    for bound in patterns[0].matches(values[0], bindings):
        yield from _match_all(patterns[1:], values[1:], bound)


def anything(name: str = "", where: Callable[[Value], bool] | None = None) -> AnyPattern:
    """A pattern for any present value that satisfies `where`."""
    return AnyPattern(name, where)


def constant(name: str = "", where: Callable[[np.ndarray], bool] | None = None) -> AnyPattern:
    """A pattern for a constant whose array satisfies `where`."""
    return AnyPattern(name, lambda value: value.is_constant and (where is None or where(value.data)))


def op(
    ops: str | tuple[str, ...],
    *operands: OperandPattern,
    name: str = "",
    where: Callable[[Node], bool] | None = None,
    single_use: bool = False,
    **attributes: Any,
) -> OpPattern:
    """A pattern for an operator.

    Args:
        ops: name, or several names, of the operator.
        operands: patterns of the first operands; none at all leaves the operands open. Commutative operators with
            two operands are tried in both orders.
        name: under which the match has the node and its value.
        where: a predicate on the node.
        single_use: the value must have exactly one use, and not be an output of the graph.
        attributes: attribute name → wanted value, or a predicate on it.
    """
    names = (ops,) if isinstance(ops, str) else tuple(ops)
    return OpPattern(names, operands or None, name, attributes, where, single_use)


def single_use(value: Value) -> bool:
    """Whether exactly one operand reads the value and the graph does not return it."""
    return value.use_count == 1 and not value.is_output
