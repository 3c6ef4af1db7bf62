"""Graphs with other constants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeir.ir.clone import copy_node
from edgeir.ir.graph import Graph
from edgeir.ir.values import Value


def with_constants(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Graph:
    """A copy of a graph in which the named constants have other arrays of the same type."""
    result = Graph(graph.name)
    mapping: dict[Value, Value] = {value: result.add_input(value.name, value.type) for value in graph.inputs}
    for value in graph.constants:
        array = arrays.get(value.name, value.data)
        mapping[value] = result.add_constant(array, value.name, value.type.layout)
    for node in graph.nodes:
        copy_node(result, node, mapping)
    result.set_outputs([(name, mapping[v]) for name, v in zip(graph.output_names, graph.outputs, strict=True)])
    return result


def set_constant(graph: Graph, name: str, array: np.ndarray) -> None:
    """Gives a constant another array of the same type; the constant becomes another `Value` of the same name."""
    old = graph.value(name)
    if not old.is_used:
        return
    new = graph.add_constant(array, name, old.type.layout)
    graph.replace_all_uses(old, new)
    graph.remove_unused_constants()
    graph.rename(new, name)
