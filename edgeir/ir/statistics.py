"""What a graph costs: parameters, multiply-accumulates, bytes moved, peak activation memory."""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.errors import EdgeIRError
from edgeir.ir.dims import Dim
from edgeir.ir.dtype import bits
from edgeir.ir.graph import Graph
from edgeir.ir.values import Node, Value


@dataclass(frozen=True)
class NodeStatistics:
    """The cost of one node: multiply-accumulates; bytes read and written, each operand once."""

    node: Node
    macs: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class GraphStatistics:
    """The cost of a graph in its current order.

    Attributes:
        nodes: number of nodes.
        operators: operator name → number of nodes, most frequent first (fused bodies counted by their operators).
        parameters: elements of all constants.
        parameter_bytes: their size.
        macs: multiply-accumulate operations.
        bytes_moved: bytes that the nodes read and write, each operand of a node counted once.
        peak_bytes: the most memory that inputs, outputs and intermediate values alive at once take, constants
            excluded, when every value lives from its definition to its last use.
        per_node: the same by node.
    """

    nodes: int
    operators: dict[str, int]
    parameters: int
    parameter_bytes: int
    macs: int
    bytes_moved: int
    peak_bytes: int
    per_node: tuple[NodeStatistics, ...]


def graph_statistics(graph: Graph) -> GraphStatistics:
    """The cost of a graph with static shapes.

    Raises:
        EdgeIRError: a dimension is symbolic.
    """
    rows = []
    for node in graph.nodes:
        inputs = [None if value is None else value.type for value in node.inputs]
        outputs = [value.type for value in node.outputs]
        macs = _static(node.definition.macs(inputs, outputs, node.attributes))
        read = sum(value.type.bytes for value in dict.fromkeys(node.present_inputs))
        rows.append(NodeStatistics(node, macs, read, sum(type.bytes for type in outputs)))
    constants = {id(value.data): value for value in graph.constants if value.is_used}.values()
    return GraphStatistics(
        nodes=len(graph),
        operators=dict(sorted(_count(graph).items(), key=lambda item: (-item[1], item[0]))),
        parameters=sum(value.data.size for value in constants),
        parameter_bytes=sum((value.data.size * bits(value.type.dtype) + 7) // 8 for value in constants),
        macs=sum(row.macs for row in rows),
        bytes_moved=sum(row.bytes_read + row.bytes_written for row in rows),
        peak_bytes=peak_activation_bytes(graph),
        per_node=tuple(rows),
    )


def peak_activation_bytes(graph: Graph) -> int:
    """The most bytes of activations alive at once in the current order; constants excluded."""
    last_use: dict[Value, Node] = {}
    for node in graph.nodes:
        for value in node.present_inputs:
            last_use[value] = node
    alive = sum(value.type.bytes for value in graph.inputs)
    peak = alive
    for node in graph.nodes:
        alive += sum(value.type.bytes for value in node.outputs)
        peak = max(peak, alive)
        for value in dict.fromkeys((*node.present_inputs, *node.outputs)):
            dead = last_use.get(value, node) is node and not value.is_output and not value.is_constant
            # Inputs belong to the caller and outputs to the result: both stay.
            if dead and not value.is_input:
                alive -= value.type.bytes
    return peak


def _count(graph: Graph) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in graph.nodes:
        body = node.attributes.get("body")
        inner = _count(body) if isinstance(body, Graph) else {node.op: 1}
        for op, number in inner.items():
            counts[op] = counts.get(op, 0) + number
    return counts


def _static(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise EdgeIRError("a fixed shape is needed", got=str(dim), hint="fix symbolic dimensions with shapes=…")
    return dim
