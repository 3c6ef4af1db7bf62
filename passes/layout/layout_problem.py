"""Which tensors are blocked: a minimum cut over the graph.

Every place where a node reads or writes a 4-D tensor is a slot that is either plain or blocked. Slots that must agree
(operands and result of an elementwise operator) form one group. A value costs its bytes once if its producer's group
and any consumer's differ, for the cast; a convolution that reads or writes plain where blocked is fast costs the time
lost. A minimum s-t cut minimises such a sum of pairwise terms over two labels exactly (Kolmogorov and Zabih, "What
energy functions can be minimized via graph cuts?", 2004), so no other assignment has cheaper casts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import networkx

from edgeir.ir import Graph, Node, Pattern, Value
from edgeir.ir.types import TensorType

# A cast reads and writes a tensor once; a blocked convolution on a plain tensor loses far more than that.
_CONV_PENALTY = 64
CONVOLUTIONS = ("conv", "conv_integer")
"""Operators that read and write blocked channels fast."""

_SPATIAL_REDUCTIONS = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min")


@dataclass
class Group:
    """Slots that have one layout.

    Attributes:
        plain_cost, blocked_cost: bytes (or their equivalent in time) lost under each label.
        fixed: the label where there is no choice (True: blocked), else None.
    """

    plain_cost: int = 0
    blocked_cost: int = 0
    fixed: bool | None = None


@dataclass(frozen=True)
class Chain:
    """Blocked values that have one layout, or a cast between them.

    Attributes:
        first: name of the value that is written first.
        values: names of all.
        groups: indices of the groups that read and write them.
        channels: channels of each value, and the elements of one channel.
    """

    first: str
    values: frozenset[str]
    groups: frozenset[int]
    channels: tuple[tuple[int, int], ...]

    def wasted(self, block: int) -> int:
        """Elements that blocks of this size add."""
        return sum(-channels % block * elements for channels, elements in self.channels)


@dataclass
class LayoutProblem:
    """Groups of slots and the values between them.

    Attributes:
        block: elements of a channel block.
        groups: all groups; index 0 is "plain by force".
        produced: value → the group of the slot that writes it.
        consumed: (node, operand position) → the group of the slot that reads it.
    """

    block: int
    groups: list[Group] = field(default_factory=lambda: [Group(fixed=False)])
    produced: dict[Value, int] = field(default_factory=dict)
    consumed: dict[tuple[Node, int], int] = field(default_factory=dict)

    def solve(self, graph: Graph) -> list[bool]:
        """The label of every group, True for blocked."""
        pairs = self._transitions(graph)
        labels = self._certain(pairs)
        undecided = [index for index, label in enumerate(labels) if label is None]
        if not undecided:
            return [bool(label) for label in labels]
        flow: networkx.DiGraph = networkx.DiGraph()
        flow.add_nodes_from(("blocked", "plain"))

        def edge(tail: object, head: object, capacity: float | None) -> None:
            if flow.has_edge(tail, head):
                known = flow[tail][head].get("capacity")
                if capacity is None:
                    flow[tail][head].pop("capacity", None)
                elif known is not None:
                    flow[tail][head]["capacity"] = known + capacity
            elif capacity is None:
                # networkx reads an absent capacity as infinite.
                flow.add_edge(tail, head)
            else:
                flow.add_edge(tail, head, capacity=capacity)

        def vertex(index: int) -> object:
            label = labels[index]
            return index if label is None else ("blocked" if label else "plain")

        for index in undecided:
            edge("blocked", index, self.groups[index].plain_cost)
            edge(index, "plain", self.groups[index].blocked_cost)
        for number, (cost, producer, consumers) in enumerate(pairs):
            if labels[producer] is not None and all(labels[index] is not None for index in consumers):
                continue
            # Cost once if the producer is plain and any consumer blocked, and the other way round.
            some_blocked, all_blocked = ("some", number), ("all", number)
            edge(some_blocked, vertex(producer), cost)
            edge(vertex(producer), all_blocked, cost)
            for index in consumers:
                edge(vertex(index), some_blocked, None)
                edge(all_blocked, vertex(index), None)
        for tail, head in [(t, h) for t, h in flow.edges if t == h or t == "plain" or h == "blocked"]:
            flow.remove_edge(tail, head)
        _, (source_side, _) = networkx.minimum_cut(flow, "blocked", "plain")
        return [label if label is not None else index in source_side for index, label in enumerate(labels)]

    def chains(self, graph: Graph, blocked: Sequence[bool]) -> list[Chain]:
        """The blocked values of a solution, together those that no cast separates, in the order of their first values.

        A convolution over all channels separates what it reads from what it writes: it may read blocks of one size and
        write those of another.
        """
        joined: networkx.Graph = networkx.Graph()
        values: dict[int, list[Value]] = {}
        for value in [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]:
            slots = {self.produced.get(value, 0), *(self.consumed.get(use, 0) for use in value.uses)}
            slots = {index for index in slots if blocked[index]}
            if not slots:
                continue
            first = min(slots)
            joined.add_edges_from((first, index) for index in slots)
            if blocked[self.produced.get(value, 0)]:
                values.setdefault(first, []).append(value)
        found = []
        for groups in networkx.connected_components(joined):
            members = [value for index in sorted(groups) for value in values.get(index, [])]
            if members:
                shapes = [value.type.static_shape for value in members]
                channels = tuple((shape[1], math.prod(shape) // shape[1]) for shape in shapes)
                names = frozenset(value.name for value in members)
                found.append(Chain(members[0].name, names, frozenset(groups), channels))
        return found

    def _transitions(self, graph: Graph) -> list[tuple[int, int, list[int]]]:
        """(bytes of a cast, producer's group, consumers' groups) of every value that could be blocked."""
        found = []
        values = [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]
        for value in values:
            if not can_block(value.type):
                continue
            producer = self.produced.get(value, 0)
            consumers = sorted({self.consumed.get(use, 0) for use in value.uses} | ({0} if value.is_output else set()))
            if any(index != producer for index in consumers):
                found.append((cast_cost(value.type, self.block), producer, consumers))
        return found

    def _certain(self, pairs: list[tuple[int, int, list[int]]]) -> list[bool | None]:
        """Labels that every optimum has: those of groups whose own preference outweighs all casts around them."""
        around = [0] * len(self.groups)
        for cost, producer, consumers in pairs:
            for index in {producer, *consumers}:
                around[index] += cost
        labels: list[bool | None] = []
        for group, casts in zip(self.groups, around, strict=True):
            if group.fixed is not None:
                labels.append(group.fixed)
            elif group.plain_cost - group.blocked_cost > casts:
                labels.append(True)
            elif group.blocked_cost - group.plain_cost > casts:
                labels.append(False)
            else:
                labels.append(None)
        return labels


# Operators that keep padded lanes finite; a later convolution multiplies those lanes by zero, which NaN would survive.
_FINITE_ON_ZEROS = frozenset(
    (
        *("abs", "neg", "relu", "leaky_relu", "clip", "sigmoid", "tanh", "erf", "exp", "sin", "cos", "sign"),
        *("floor", "ceil", "round", "add", "sub", "mul", "minimum", "maximum", "where", "cast"),
        *("equal", "less", "less_equal", "greater", "greater_equal"),
        *("logical_not", "logical_and", "logical_or", "logical_xor"),
        # Of integers, any lane is as good as zero: the weights of those lanes are zero.
        *("quantize", "dequantize", "lookup"),
    )
)


def can_block(type: TensorType) -> bool:
    """Whether a tensor could be stored with blocked channels: rank 4 and fixed shape, not empty."""
    return type.rank == 4 and type.is_static and type.elements != 0


def cast_cost(type: TensorType, block: int) -> int:
    """Bytes that a cast moves; 0 where blocked and plain are the same bytes."""
    _, channels, height, width = type.static_shape
    free = height * width == 1 and channels % block == 0
    return 0 if free else 2 * type.with_layout("").bytes


def layout_problem(graph: Graph, block: int) -> LayoutProblem:
    """The groups of a graph and what each label costs them."""
    problem = LayoutProblem(block)
    weights: set[Value] = set()
    for node in graph.nodes:
        # What is computed from constants alone are weights, which kernels decode as they read them, plain.
        if all(value.is_constant or value in weights for value in node.present_inputs):
            weights.update(node.outputs)
        elif all(can_block(value.type) for value in node.outputs):
            _add_node(problem, node)
    return problem


def _add_node(problem: LayoutProblem, node: Node) -> None:
    if node.op in CONVOLUTIONS:
        _add_conv(problem, node)
        return
    ties = tied_operands(node, problem.block)
    if ties is None:
        return
    group = _new_group(problem)
    for position in ties:
        problem.consumed[node, position] = group
    for value in node.outputs:
        problem.produced[value] = group
        problem.groups[group].blocked_cost += _waste(value.type, problem.block)


def _add_conv(problem: LayoutProblem, node: Node) -> None:
    x, w, y = node.input(0).type, node.input(1).type, node.output.type
    groups, block = node.attributes["groups"], problem.block
    depthwise = groups > 1 and groups == x.shape[1] == y.shape[1]
    if groups > 1 and not depthwise:
        inner, outer = w.static_shape[1], w.static_shape[0] // groups
        if inner % block or outer % block:
            # Groups that do not fill blocks would share them.
            return
    work = _CONV_PENALTY * y.with_layout("").bytes
    out = _new_group(problem)
    problem.produced[node.output] = out
    problem.groups[out].blocked_cost += _waste(y, block)
    if 2 * y.static_shape[1] >= block:
        problem.groups[out].plain_cost += work
    else:
        problem.groups[out].blocked_cost += work
    if depthwise:
        problem.consumed[node, 0] = out
        return
    into = _new_group(problem)
    problem.consumed[node, 0] = into
    if 2 * x.static_shape[1] >= block:
        problem.groups[into].plain_cost += _CONV_PENALTY * x.with_layout("").bytes
    else:
        problem.groups[into].blocked_cost += _CONV_PENALTY * x.with_layout("").bytes


def tied_operands(node: Node, block: int) -> list[int] | None:
    """Positions of the operands that have the layout of the node's result; None if it works on plain tensors only."""
    operator, attributes = node.definition, node.attributes
    if operator.pattern is Pattern.ELEMENTWISE:
        ragged = node.output.type.static_shape[1] % block != 0
        return None if ragged and not _finite_on_zeros(node) else _elementwise_ties(node)
    if node.op in ("max_pool", "average_pool"):
        return [0]
    if node.op in _SPATIAL_REDUCTIONS:
        return [0] if attributes["keepdims"] and set(attributes["axes"]) <= {2, 3} else None
    if node.op == "concat":
        aligned = attributes["axis"] != 1 or all(v.type.static_shape[1] % block == 0 for v in node.present_inputs)
        return list(range(len(node.inputs))) if aligned and attributes["axis"] != 0 else None
    if node.op == "resize":
        return [0] if node.input(0).type.shape[:2] == node.output.type.shape[:2] else None
    return None


def _elementwise_ties(node: Node) -> list[int] | None:
    channels = node.output.type.shape[1]
    ties = []
    for position, value in enumerate(node.inputs):
        if value is None:
            continue
        rank = value.type.rank
        spans = rank >= 3 and value.type.shape[rank - 3] == channels
        if not spans:
            continue
        if rank == 4 or value.is_constant:
            ties.append(position)
        else:
            return None
    return ties


def _finite_on_zeros(node: Node) -> bool:
    if node.op == "div":
        divisor = node.input(1)
        return divisor.is_constant and divisor.data.size == 1 and bool(divisor.data.all())
    return node.op in _FINITE_ON_ZEROS


def _waste(type: TensorType, block: int) -> int:
    return type.with_layout(f"NCHW{block}c").bytes - type.with_layout("").bytes


def _new_group(problem: LayoutProblem) -> int:
    problem.groups.append(Group())
    return len(problem.groups) - 1
