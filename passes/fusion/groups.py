"""Which operators become one kernel.

Every group has one *sink*: the only node of the group whose results are used outside it. That makes fusion safe
without looking for paths: if group A feeds group B, A's sink stands before a node of B and therefore before B's sink,
so the groups, ordered by their sinks, never form a cycle; and a path that left a group at its sink could only come
back by a cycle of the graph itself, so every group is convex.

Groups grow downwards from a heavy operator through elementwise work, from the sink to its immediate post-dominator
(all paths from the sink meet there again), as in TVM's FuseOps; and upwards from a sink to producers that nothing
outside the group reads. An operator is taken into a group only if it is computed there exactly once per element.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import networkx

from edgeir.ir import Graph, Node, Pattern, Value
from edgeir.ir.dtype import bits
from edgeir.passes.fusion.attention import attention_groups
from edgeir.targets import Target

PROLOGUE_ANCHORS = frozenset({"softmax", "log_softmax"})
"""Anchors that may compute their input on the fly."""

READS_ONCE = frozenset({"transpose", "reshape", "slice", "concat", "pad", "layout_cast"})
"""Injective operators that read every input element at most once."""

CONCAT_NODES = 8
"""Larger groups stay outside a concatenation, whose kernel branches over its operands."""

DECODERS = frozenset({"dequantize", "cast", "lookup", "log_dequantize"})
"""What turns compressed constants and quantized activations into numbers."""

DECODING_ANCHORS = frozenset({"conv", "matmul", "conv_integer", "matmul_integer"})
"""Anchors that may decode their right operand, a compressed constant, as they read it."""

Index = object
"""Identity of the index function by which a group reads a node's elements."""


@dataclass(frozen=True)
class Limits:
    """Sizes that a group must not exceed."""

    operands: int = 24
    nodes: int = 64


@dataclass
class Group:
    """Nodes that become one kernel.

    Attributes:
        sink: the node whose results the kernel writes.
        anchor: the operator that gives the kernel its schedule; None for elementwise and injective groups.
        members: all nodes, and how the group's output index maps to each one's.
    """

    sink: Node
    anchor: Node | None
    members: dict[Node, Index] = field(default_factory=dict)

    def operands(self) -> dict[Value, None]:
        """Values that the kernel reads, scalar constants left out."""
        return dict.fromkeys(
            value
            for node in self.members
            for value in node.present_inputs
            if value.producer not in self.members and not is_scalar_constant(value)
        )


def is_narrow_decoder(node: Node) -> bool:
    """Whether the node makes numbers of 8-bit integers that are no constant."""
    return node.op in ("dequantize", "cast") and not node.input(0).is_constant and bits(node.input(0).type.dtype) <= 8


def is_constant_decoder(node: Node) -> bool:
    """Whether the node decodes a constant of few bits, or what does so."""
    if node.op not in DECODERS:
        return False
    first = node.input(0)
    inner = first.producer
    rest = all(value.is_constant for value in node.present_inputs[1:])
    return (
        rest
        and bits(first.type.dtype) <= 8
        and (first.is_constant or (inner is not None and is_constant_decoder(inner)))
    )


def is_scalar_constant(value: Value) -> bool:
    """Whether the value is a constant of one element, which a kernel has in its code."""
    return value.is_constant and value.data.size == 1


class Grouping:
    """Forms the groups of a graph; the graph is not changed.

    Args:
        graph: the graph.
        limits: sizes that no group exceeds.
        target: the machine; without one, no group is formed for the sake of its caches.
    """

    def __init__(self, graph: Graph, limits: Limits, target: Target | None = None) -> None:
        self.graph = graph
        self.target = target
        self.limits = limits
        self.nodes = list(graph.nodes)
        self.position = {node: index for index, node in enumerate(self.nodes)}
        self.group_of: dict[Node, Group] = {}
        self.pattern = {node: node.definition.pattern for node in self.nodes}
        self.post_dominator = self._post_dominators()

    def form(self) -> list[Group]:
        """All groups, each after those whose results it reads. Existing fused nodes and lone reshapes are left out."""
        ungrouped = [node for node in reversed(self.nodes) if node.op != "fused"]
        for sink, softmax, members in attention_groups(self.graph, self.target):
            self._admit(Group(sink, softmax), members, Index())
        # Later operators first: where two branches meet, the one computed last takes the meeting point along.
        for node in ungrouped:
            if self.pattern[node] is Pattern.ANCHOR and node not in self.group_of:
                self._grow_anchor(node)
        for node in ungrouped:
            if self.pattern[node] is Pattern.REDUCTION:
                self._grow_reduction(node)
        for node in ungrouped:
            if node in self.group_of and node.op in PROLOGUE_ANCHORS:
                self._grow_upwards(self.group_of[node], [node], self._is_elementwise)
        for node in ungrouped:
            if node in self.group_of or is_view(node):
                continue
            if self.pattern[node] in (Pattern.ELEMENTWISE, Pattern.INJECTIVE):
                self._grow_map(node)
            else:
                self._start(node, node)
        groups = {id(group): group for group in self.group_of.values()}
        return sorted(groups.values(), key=lambda group: self.position[group.sink])

    # Kinds of groups

    def _grow_anchor(self, node: Node) -> None:
        group = self._start(node, node)
        self._grow_downwards(group)
        # Slices that only the epilogue reads are index arithmetic there, and a kernel of their own otherwise; of
        # integers that it dequantizes it reads fewer bytes.
        epilogue = [member for member in group.members if member is not node]
        self._grow_upwards(group, epilogue, lambda producer: producer.op == "slice" or is_narrow_decoder(producer))
        if node.op in DECODING_ANCHORS:
            self._take_decoders(group, node.input(1))

    def _take_decoders(self, group: Group, value: Value) -> None:
        """Takes in what decodes a constant for one reader."""
        producer = value.producer
        while (
            producer is not None
            and producer not in self.group_of
            and is_constant_decoder(producer)
            and value.use_count == 1
            and not value.is_output
            and self._admit(group, [producer], Index())
        ):
            value = producer.input(0)
            producer = value.producer

    def _grow_reduction(self, node: Node) -> None:
        if node in self.group_of:
            return
        group = self._start(node, node)
        self._grow_downwards(group)
        self._grow_upwards(group, [node], self._is_elementwise)

    def _grow_map(self, node: Node) -> None:
        group = self._start(node, None)
        self._grow_upwards(group, [node], lambda producer: self.pattern[producer] in MAPS)
        self._drop_leading_views(group)

    def _start(self, node: Node, anchor: Node | None) -> Group:
        group = Group(node, anchor, {node: Index()})
        self.group_of[node] = group
        return group

    def _is_elementwise(self, node: Node) -> bool:
        return self.pattern[node] is Pattern.ELEMENTWISE

    # Growth

    def _grow_downwards(self, group: Group) -> None:
        """Takes in elementwise work on the sink's result, one post-dominator at a time."""
        shape = group.sink.outputs[0].type.shape if len(group.sink.outputs) == 1 else None
        while shape is not None:
            end = self.post_dominator.get(group.sink)
            region = None if end is None else self._region(group.sink, end, shape)
            if region is None or not self._admit(group, region, group.members[group.sink]):
                break
            assert end is not None
            group.sink = end
        self._leave_decoder(group)

    def _leave_decoder(self, group: Group) -> None:
        """Hands out integers rather than the numbers that were made of them last; their reader does that as well."""
        sink = group.sink
        while is_narrow_decoder(sink) and not sink.output.is_output and sink.input(0).producer in group.members:
            producer = sink.input(0).producer
            if producer is None or any(value.producer in group.members for value in sink.present_inputs[1:]):
                return
            del group.members[sink]
            del self.group_of[sink]
            group.sink = sink = producer

    def _region(self, start: Node, end: Node, shape: tuple[object, ...]) -> list[Node] | None:
        """The nodes on paths from `start` to its post-dominator `end`, without `start`, if all are elementwise."""
        found: dict[Node, None] = {}
        pending = [start]
        while pending:
            node = pending.pop()
            for value in node.outputs:
                if value.use_count > self.limits.nodes:
                    return None
                for user in value.users:
                    if user in found:
                        continue
                    if user in self.group_of or not self._is_elementwise(user) or user.output.type.shape != shape:
                        return None
                    found[user] = None
                    if len(found) > self.limits.nodes:
                        return None
                    if user is not end:
                        pending.append(user)
        return list(found)

    def _grow_upwards(self, group: Group, readers: Iterable[Node], accept: Callable[[Node], bool]) -> None:
        """Takes in producers that only the group reads, latest first, so that all readers are decided before."""
        heap: list[tuple[int, Node]] = []
        queued: set[Node] = set()

        def push(node: Node) -> None:
            for value in node.present_inputs:
                producer = value.producer
                if producer is not None and producer not in queued and producer not in self.group_of:
                    queued.add(producer)
                    heapq.heappush(heap, (-self.position[producer], producer))

        for reader in readers:
            push(reader)
        while heap:
            _, producer = heapq.heappop(heap)
            if not accept(producer):
                continue
            index = self._index(group, producer)
            if index is not None and self._admit(group, [producer], index):
                push(producer)

    def _index(self, group: Group, producer: Node) -> Index | None:
        """The one index function by which the group would read the producer; None if it must stay outside."""
        if len(producer.outputs) != 1:
            return None
        value = producer.output
        if value.is_output or value.use_count > self.limits.nodes:
            return None
        indices = {index for index in self._read_indices(group, producer)}
        return indices.pop() if len(indices) == 1 else None

    def _read_indices(self, group: Group, producer: Node) -> Iterator[Index | None]:
        value = producer.output
        for user, operand in value.uses:
            if user not in group.members:
                yield None
            elif self.pattern[user] is Pattern.ELEMENTWISE:
                # A smaller operand would be computed again for every element that it is broadcast to, which is cheap
                # only for a dequantization.
                same = value.type.shape == user.output.type.shape
                yield group.members[user] if same or is_narrow_decoder(producer) else None
            elif self.pattern[user] is Pattern.INJECTIVE:
                yield (user, operand) if self._may_feed(group, producer, user, operand) else None
            elif user is group.anchor and operand == 0:
                yield user
            else:
                yield None

    def _may_feed(self, group: Group, producer: Node, user: Node, operand: int) -> bool:
        if operand > 0 and user.op != "concat":
            return False
        if not self._is_elementwise(producer):
            return True
        if user.op == "concat" and len(group.members) >= CONCAT_NODES:
            return False
        return user.op in READS_ONCE and user.attributes.get("mode", "constant") == "constant"

    def _admit(self, group: Group, nodes: Iterable[Node], index: Index) -> bool:
        """Adds nodes to the group unless that exceeds its limits."""
        added = [node for node in nodes if node not in group.members]
        for node in added:
            group.members[node] = index
        if len(group.members) > self.limits.nodes or len(group.operands()) > self.limits.operands:
            for node in added:
                del group.members[node]
            return False
        for node in added:
            self.group_of[node] = group
        return True

    def _drop_leading_views(self, group: Group) -> None:
        """Reshapes that read what comes from outside are views of it; inside a kernel they save nothing."""
        for node in sorted(group.members, key=self.position.__getitem__):
            if is_view(node) and node.input(0).producer not in group.members:
                del group.members[node]
                del self.group_of[node]

    def _post_dominators(self) -> dict[Node, Node]:
        """Node → the first node that every path from it to the graph's outputs meets, where there is one."""
        leave = -1
        reverse: networkx.DiGraph = networkx.DiGraph()
        reverse.add_node(leave)
        for index, node in enumerate(self.nodes):
            if any(value.is_output or not value.is_used for value in node.outputs):
                reverse.add_edge(leave, index)
            for value in node.present_inputs:
                if value.producer is not None:
                    reverse.add_edge(index, self.position[value.producer])
        found = networkx.immediate_dominators(reverse, leave)
        return {
            self.nodes[index]: self.nodes[end]
            for index, end in found.items()
            if end is not None and index != leave and end != leave
        }


MAPS = frozenset({Pattern.ELEMENTWISE, Pattern.INJECTIVE})


def is_view(node: Node) -> bool:
    """Whether the node is a reshape of a plain tensor, which needs no kernel."""
    return node.op == "reshape" and not node.input(0).type.layout and not node.output.type.layout
