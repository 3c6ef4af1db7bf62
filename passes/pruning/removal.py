"""Removing channels: a graph with smaller constants, attributes and types, in place of the old one.

The smaller graph is made and verified beside the old one; only then the old one's nodes are replaced, so that a failure
leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, Value
from edgeir.ir.clone import copy_node
from edgeir.passes.pruning.channel_axes import ChannelAxis, Kept
from edgeir.passes.pruning.coupling import is_vector, operand_axis


def without_channels(graph: Graph, kept: Kept) -> Graph:
    """A copy of the graph in which only the given indices are left of the given axes.

    Args:
        graph: the graph; it stays as it is.
        kept: closed under coupling (`coupling.channel_spaces`): with an index, its whole group stays or goes.

    Raises:
        EdgeIRError: an axis would be empty, or the sets are not closed.
    """
    for axis, indices in kept.items():
        if not len(indices):
            raise EdgeIRError("no channel would be left", where=f"%{axis.value.name}, axis {axis.axis}")
    result = Graph(graph.name)
    mapping: dict[Value, Value] = {value: result.add_input(value.name, value.type) for value in graph.inputs}
    constants: dict[tuple[Value, tuple[tuple[int, bytes], ...]], Value] = {}

    def constant(value: Value, reader: tuple[Node, int] | None) -> Value:
        cuts = []
        for axis in range(value.type.rank):
            indices = kept.get(ChannelAxis(value, axis, reader if is_vector(value) else None))
            if indices is not None and len(indices) < value.data.shape[axis]:
                cuts.append((axis, indices))
        key = value, tuple((axis, indices.tobytes()) for axis, indices in cuts)
        if key not in constants:
            array = value.data
            for axis, indices in cuts:
                array = np.take(array, indices, axis=axis)
            constants[key] = result.add_constant(array, value.name, value.type.layout)
        return constants[key]

    for value in graph.constants:
        if value.is_output or not value.is_used:
            constant(value, None)
    for node in graph.nodes:
        operands = [
            None if value is None else constant(value, (node, position)) if value.is_constant else mapping[value]
            for position, value in enumerate(node.inputs)
        ]
        operands = _new_indices(result, node, operands, kept)
        made = result.add_node(
            node.op,
            operands,
            _attributes(node, kept),
            names=[value.name for value in node.outputs],
            location=node.location,
        )
        for old, new in zip(node.outputs, made.outputs, strict=True):
            mapping[old] = new
            expected = tuple(
                len(kept[ChannelAxis(old, axis)]) if ChannelAxis(old, axis) in kept else size
                for axis, size in enumerate(old.type.shape)
            )
            if new.type.shape != expected:
                raise EdgeIRError(
                    "channels were removed that are coupled with others", where=str(node), expected=expected, got=new
                )
    outputs = zip(graph.output_names, graph.outputs, strict=True)
    result.set_outputs(
        [(name, constant(value, None) if value.is_constant else mapping[value]) for name, value in outputs]
    )
    result.verify()
    return result


def replace_contents(graph: Graph, new: Graph) -> None:
    """Makes `graph` hold the nodes and constants of `new`, whose inputs have the same names and types.

    Raises:
        EdgeIRError: inputs differ; nothing changed then.
    """
    if [(value.name, value.type) for value in graph.inputs] != [(value.name, value.type) for value in new.inputs]:
        raise EdgeIRError("the graphs' inputs differ", where=f"graph {graph.name}")
    old_nodes = list(graph.nodes)
    mapping: dict[Value, Value] = dict(zip(new.inputs, graph.inputs, strict=True))
    added: list[Node] = []
    try:
        for value in new.constants:
            mapping[value] = graph.add_constant(value.data, value.name, value.type.layout)
        for node in new.nodes:
            added.append(copy_node(graph, node, mapping))
    except BaseException:
        for node in reversed(added):
            graph.erase(node)
        graph.remove_unused_constants()
        raise
    graph.set_outputs([(name, mapping[value]) for name, value in zip(new.output_names, new.outputs, strict=True)])
    for node in reversed(old_nodes):
        graph.erase(node)
    graph.remove_unused_constants()
    # The old values held these names until now; in two steps, as a new value may hold another one's.
    moved = [
        (source, value) for source, value in mapping.items() if value._graph is graph and value.name != source.name
    ]
    for _, value in moved:
        graph.rename(value, graph.fresh_name("moved"))
    for source, value in moved:
        graph.rename(value, source.name)


def _attributes(node: Node, kept: Kept) -> Mapping[str, Any]:
    """A node's attributes for the smaller operands."""
    attributes = dict(node.attributes)

    def left(value: Value, axis: int) -> int | None:
        indices = kept.get(ChannelAxis(value, axis))
        return None if indices is None else len(indices)

    if node.op in ("reshape", "expand", "resize", "slice"):
        name = {"reshape": "shape", "expand": "shape", "resize": "sizes", "slice": "sizes"}[node.op]
        sizes = [left(node.output, axis) for axis in range(node.output.type.rank)]
        attributes[name] = tuple(
            old if size is None else size for old, size in zip(attributes[name], sizes, strict=True)
        )
    if node.op == "slice":
        attributes["starts"] = tuple(
            _start(kept.get(operand_axis(node, 0, axis)), start) for axis, start in enumerate(attributes["starts"])
        )
    if node.op == "pad":
        attributes["padding"] = _padding(node, kept)
    if node.op in ("conv", "conv_transpose"):
        channels, groups = node.input(0).type.shape[1], attributes["groups"]
        remaining = left(node.input(0), 1)
        if remaining is not None and groups == channels and groups > 1:
            attributes["groups"] = remaining
    return attributes


def _start(indices: np.ndarray | None, start: Any) -> Any:
    return start if indices is None else int(np.searchsorted(indices, start))


def _padding(node: Node, kept: Kept) -> tuple[int, ...]:
    padding = list(node.attributes["padding"])
    rank = node.output.type.rank
    for axis in range(rank):
        indices = kept.get(ChannelAxis(node.output, axis))
        if indices is not None:
            begin, size = padding[axis], node.input(0).type.shape[axis]
            padding[axis] = int((indices < begin).sum())
            padding[axis + rank] = int((indices >= begin + size).sum())
    return tuple(padding)


def _new_indices(graph: Graph, node: Node, operands: list[Value | None], kept: Kept) -> list[Value | None]:
    """A gather along channels reads its table at new places."""
    if node.op != "gather" or not node.input(1).is_constant:
        return operands
    along = node.attributes["axis"]
    table = kept.get(operand_axis(node, 0, along))
    result = kept.get(ChannelAxis(node.output, along))
    if table is None and result is None:
        return operands
    size = node.input(0).type.shape[along]
    indices = node.input(1).data
    places = np.where(indices < 0, indices + size, indices)
    if result is not None:
        places = places[result]
    if table is not None:
        places = np.searchsorted(table, places)
    return [operands[0], graph.add_constant(places.astype(indices.dtype), node.input(1).name)]
