"""Coupled channels of a graph: what can be removed, and only together.

A layer's output channel is read by other layers through elementwise operators, concatenations, reshapes and so on; it
can be removed if everything on the way loses the same channel. Following Fang et al., "DepGraph: Towards Any Structural
Pruning" (CVPR 2023), the operators say which indices of their operands and results go together, and the sets that can
be removed are connected components; here they are components of indices, not of layers, so that concatenations,
slices, groups and heads need no special treatment.
"""

from __future__ import annotations

from collections import deque

import networkx
import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, Pattern, Value
from edgeir.ir.evaluate import evaluate_node
from edgeir.passes.pruning import layer_rules, shape_rules
from edgeir.passes.pruning.channel_axes import ChannelAxis, ChannelSpace, Link, Place, Producer, Refusal
from edgeir.passes.pruning.layer_rules import Answer, Rule, operand

_TRIANGLE_AXES = 2


def _trilu(node: Node, place: Place, axis: int) -> Answer:
    if axis >= node.output.type.rank - _TRIANGLE_AXES:
        yield Refusal("trilu masks along the axis")
    else:
        yield from layer_rules.passing(node, place, axis)


RULES: dict[str, Rule] = {
    "conv": layer_rules.convolution,
    "conv_transpose": layer_rules.transposed_convolution,
    "matmul": layer_rules.product,
    "einsum": layer_rules.einstein,
    "batch_norm": layer_rules.batch_norm,
    "layer_norm": layer_rules.layer_norm,
    "softmax": layer_rules.along("axis"),
    "log_softmax": layer_rules.along("axis"),
    "cum_sum": layer_rules.along("axis"),
    "cum_prod": layer_rules.along("axis"),
    "top_k": layer_rules.along("axis"),
    "arg_max": layer_rules.extremum,
    "arg_min": layer_rules.extremum,
    **{f"reduce_{name}": layer_rules.reduction for name in ("sum", "mean", "max", "min", "prod")},
    **{name: layer_rules.pooling for name in ("max_pool", "average_pool", "grid_sample", "roi_align")},
    "reshape": shape_rules.reshape,
    "transpose": shape_rules.transpose,
    "concat": shape_rules.concat,
    "slice": shape_rules.slicing,
    "pad": shape_rules.pad,
    "tile": shape_rules.tile,
    "expand": shape_rules.expand,
    "resize": shape_rules.resize,
    "gather": shape_rules.gather,
    "trilu": _trilu,
}
"""Operator → its rule. Elementwise operators share one; all others keep their channels."""


def rule_of(node: Node) -> Rule | None:
    """The rule of a node's operator, or None."""
    if node.op in RULES:
        return RULES[node.op]
    return layer_rules.elementwise if node.definition.pattern is Pattern.ELEMENTWISE else None


def channel_spaces(graph: Graph) -> list[ChannelSpace]:
    """All sets of coupled axes that layers with weights produce, in the order of the first layer of each.

    Raises:
        EdgeIRError: the graph was fused, or its layouts assigned; channels are removed before that.
    """
    for node in graph.nodes:
        if node.op == "fused" or any(value.type.layout for value in node.outputs):
            raise EdgeIRError(
                "channels are removed from plain graphs",
                where=str(node),
                got="a fused node" if node.op == "fused" else "an assigned layout",
                hint="prune before fuse-operators and assign-layouts, for instance after the simplification pipeline",
            )
    derived = weight_values(graph)
    spaces: list[ChannelSpace] = []
    home: dict[ChannelAxis, ChannelSpace] = {}
    for node in graph.nodes:
        for producer in producers_of(node, derived):
            if producer.output not in home:
                space = _explore(producer.output)
                spaces.append(space)
                home.update(dict.fromkeys(space.labels, space))
            home[producer.output].producers.append(producer)
    return spaces


def weight_values(graph: Graph) -> set[Value]:
    """Constants, and what is computed from nothing else."""
    found = set(graph.constants)
    for node in graph.nodes:
        if node.present_inputs and all(value in found for value in node.present_inputs):
            found.update(node.outputs)
    return found


def constant_array(value: Value) -> np.ndarray:
    """The array of a constant, or of a value computed from constants only (by the reference evaluator).

    Raises:
        EdgeIRError: the value depends on an input.
    """
    if value.is_constant:
        return value.data
    if value.producer is None:
        raise EdgeIRError("a value that depends on no input is needed", where=repr(value))
    arrays = [None if item is None else constant_array(item) for item in value.producer.inputs]
    return evaluate_node(value.producer, arrays)[value.index]


def producers_of(node: Node, derived: set[Value]) -> list[Producer]:
    """The weights of a layer with the axis of their output channels."""

    def producer(weight: int, weight_axis: int, output_axis: int) -> Producer:
        value = node.input(weight)
        return Producer(node, ChannelAxis(value, weight_axis), ChannelAxis(node.output, output_axis))

    if node.op not in ("conv", "conv_transpose", "matmul"):
        return []
    rank = node.output.type.rank
    static = isinstance(node.output.type.shape[1 if node.op != "matmul" else -1], int)
    if node.op in ("conv", "conv_transpose"):
        return [producer(1, 0 if node.op == "conv" else 1, 1)] if node.input(1) in derived and static else []
    found = []
    a, b = node.input(0), node.input(1)
    if b in derived and a not in derived and static:
        found.append(producer(1, b.type.rank - (2 if node.attributes["transpose_b"] else 1), rank - 1))
    if a in derived and b not in derived and isinstance(node.output.type.shape[-2], int):
        found.append(producer(0, a.type.rank - (1 if node.attributes["transpose_a"] else 2), rank - 2))
    return found


def _explore(seed: ChannelAxis) -> ChannelSpace:
    """All axes coupled with one, and the components of their indices."""
    offsets: dict[ChannelAxis, int] = {}
    edges: list[tuple[np.ndarray, np.ndarray]] = []
    refused: list[tuple[ChannelAxis, Refusal]] = []
    queue: deque[ChannelAxis] = deque()
    total = 0

    def visit(axis: ChannelAxis) -> int:
        nonlocal total
        if axis not in offsets:
            offsets[axis] = total
            total += axis.size
            queue.append(axis)
        return offsets[axis]

    visit(seed)
    while queue:
        here = queue.popleft()
        for node, place in _touching(here):
            for answer in _ask(node, place, here.axis):
                if isinstance(answer, Refusal):
                    refused.append((here, _located(answer, node)))
                    continue
                value = node.outputs[answer.place.position] if answer.place.output else None
                there = _axis_of(node, answer, value)
                edges.append((answer.source + offsets[here], answer.target + visit(there)))
        if here.value.is_output:
            refused.append((here, Refusal("it is an output of the graph")))
        if here.value.is_input:
            refused.append((here, Refusal("it is an input of the graph")))
    return _components(offsets, total, edges, refused)


def _axis_of(node: Node, link: Link, output: Value | None) -> ChannelAxis:
    return ChannelAxis(output, link.axis) if output is not None else operand_axis(node, link.place.position, link.axis)


def operand_axis(node: Node, position: int, axis: int) -> ChannelAxis:
    """An axis of an operand; of this reader's copy where it is a constant vector."""
    value = node.input(position)
    return ChannelAxis(value, axis, (node, position) if is_vector(value) else None)


def is_vector(value: Value) -> bool:
    """Whether it is a constant with at most one axis longer than 1: a bias, a scale. Every reader may have its own."""
    return value.is_constant and sum(size != 1 for size in value.type.shape) <= 1


def _touching(axis: ChannelAxis) -> list[tuple[Node, Place]]:
    """The nodes that see the axis, and where."""
    if axis.reader is not None:
        return [(axis.reader[0], operand(axis.reader[1]))]
    value = axis.value
    found = [(node, operand(position)) for node, position in value.uses]
    if value.producer is not None:
        found.append((value.producer, Place(True, value.index)))
    return found


def _ask(node: Node, place: Place, axis: int) -> list[Link | Refusal]:
    rule = rule_of(node)
    if rule is None:
        return [Refusal(f"{node.op} does not keep channels apart")]
    return list(rule(node, place, axis))


def _located(refusal: Refusal, node: Node) -> Refusal:
    place = node.location or node.outputs[0].name
    return Refusal(f"{refusal.reason} (at {place})", refusal.indices)


def _components(
    offsets: dict[ChannelAxis, int],
    total: int,
    edges: list[tuple[np.ndarray, np.ndarray]],
    refused: list[tuple[ChannelAxis, Refusal]],
) -> ChannelSpace:
    graph: networkx.Graph = networkx.Graph()
    graph.add_nodes_from(range(total))
    for source, target in edges:
        graph.add_edges_from(zip(source.tolist(), target.tolist(), strict=True))
    labels = np.empty(total, dtype=np.int64)
    count = 0
    for component in networkx.connected_components(graph):
        labels[list(component)] = count
        count += 1
    space = ChannelSpace({axis: labels[offset : offset + axis.size] for axis, offset in offsets.items()}, count)
    for axis, refusal in refused:
        groups = space.labels[axis] if refusal.indices is None else space.labels[axis][refusal.indices]
        for group in np.unique(groups).tolist():
            space.refusals.setdefault(group, refusal.reason)
    for axis, mine in space.labels.items():
        # A group that is a whole axis would leave nothing of it.
        whole = np.unique(mine)
        if len(whole) == 1:
            reason = f"all channels of %{axis.value.name} are coupled with each other"
            space.refusals.setdefault(int(whole[0]), reason)
    return space
