"""Copies of graphs, optionally with symbolic dimensions fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeir.ir.dims import SymbolicDim, bind
from edgeir.ir.graph import Graph
from edgeir.ir.values import Node, Value


def clone(graph: Graph, values: Mapping[str, int] | None = None) -> Graph:
    """A deep copy of a graph: names, order and locations kept, constant arrays shared.

    Args:
        graph: the graph.
        values: symbol name → size; types are inferred anew, which checks that the sizes fit.

    Raises:
        EdgeIRError: a size does not fit an operator.
    """
    result = Graph(graph.name)
    mapping: dict[Value, Value] = {}
    sizes = dict(values or {})
    for value in graph.inputs:
        mapping[value] = result.add_input(value.name, value.type.bind(sizes) if sizes else value.type)
    for value in graph.constants:
        copied = result.add_constant(value.data, value.name, value.type.layout)
        copied._digest = value._digest
        mapping[value] = copied
    for node in graph.nodes:
        copy_node(result, node, mapping, sizes)
    result.set_outputs([(name, mapping[v]) for name, v in zip(graph.output_names, graph.outputs, strict=True)])
    return result


def copy_node(
    graph: Graph,
    node: Node,
    mapping: dict[Value, Value],
    sizes: Mapping[str, int] | None = None,
    before: Node | None = None,
) -> Node:
    """Adds a copy of `node` to `graph`, reading `mapping[operand]`; the mapping learns the new results."""
    layouts = [value.type.layout for value in node.outputs]
    attributes = {key: bind_attribute(value, sizes or {}) for key, value in node.attributes.items()}
    copied = graph.add_node(
        node.op,
        [None if value is None else mapping[value] for value in node.inputs],
        attributes,
        names=[value.name for value in node.outputs],
        before=before,
        location=node.location,
        output_layouts=layouts if any(layouts) else None,
    )
    mapping.update(zip(node.outputs, copied.outputs, strict=True))
    return copied


def bind_attribute(value: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute value with symbols replaced in dimensions and bodies."""
    if isinstance(value, Graph):
        return clone(value, sizes)
    if not sizes:
        return value
    if isinstance(value, SymbolicDim):
        return bind(value, sizes)
    if isinstance(value, tuple) and any(isinstance(item, SymbolicDim) for item in value):
        return tuple(bind(item, sizes) if isinstance(item, SymbolicDim) else item for item in value)
    return value
