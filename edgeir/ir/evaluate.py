"""The reference evaluator: a graph's meaning, node by node with numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.graph import Graph
from edgeir.ir.shapes import symbol_sizes
from edgeir.ir.values import Node, Value

Observer = Callable[[Value, np.ndarray], None]


def evaluate(graph: Graph, inputs: Mapping[str, np.ndarray], observe: Observer | None = None) -> dict[str, np.ndarray]:
    """Runs a graph.

    Args:
        graph: the graph; symbolic dimensions take the sizes of the inputs.
        inputs: input name → array.
        observe: called with every value that a node computes.

    Returns:
        Output name → array.

    Raises:
        EdgeIRError: an input is missing, unknown, or of the wrong type, or a node fails.
    """
    sizes = check_inputs(graph, inputs)
    if sizes:
        graph = graph.bind(sizes)
    environment: dict[Value, np.ndarray] = {value: np.asarray(inputs[value.name]) for value in graph.inputs}
    remaining: dict[Value, int] = {}
    for node in graph.nodes:
        for value in node.present_inputs:
            remaining[value] = remaining.get(value, 0) + 1
    for node in graph.nodes:
        arrays = [None if v is None else v.data if v.is_constant else environment[v] for v in node.inputs]
        for value, array in zip(node.outputs, evaluate_node(node, arrays), strict=True):
            environment[value] = array
            if observe is not None:
                observe(value, array)
        for value in node.present_inputs:
            remaining[value] -= 1
            if not remaining[value] and not value.is_output and not value.is_constant:
                environment.pop(value, None)
    return {
        name: value.data if value.is_constant else environment[value]
        for name, value in zip(graph.output_names, graph.outputs, strict=True)
    }


def evaluate_node(node: Node, arrays: list[np.ndarray | None]) -> list[np.ndarray]:
    """The arrays that a node computes, checked against its output types.

    Raises:
        EdgeIRError: the definition failed or does not agree with its own type inference.
    """
    with np.errstate(all="ignore"):
        results = [np.asarray(array) for array in node.definition.evaluate(arrays, node.attributes)]
    for value, array in zip(node.outputs, results, strict=True):
        if array.dtype != numpy_dtype(value.type.dtype) or array.shape != value.type.shape:
            raise EdgeIRError(
                f"reference evaluation of {node.op} disagrees with its type inference",
                where=str(node),
                expected=value.type,
                got=f"{array.dtype.name}{list(array.shape)}",
            )
    return results


def check_inputs(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Checks arrays against a graph's inputs; returns the sizes of its symbols.

    Raises:
        EdgeIRError: an input is missing, unknown, or of the wrong dtype or shape.
    """
    names = {value.name for value in graph.inputs}
    for name in inputs:
        if name not in names:
            raise EdgeIRError("no such input", expected=", ".join(sorted(names)) or "no inputs", got=name)
    shapes = {}
    for value in graph.inputs:
        if value.name not in inputs:
            raise EdgeIRError("an input is missing", expected=repr(value))
        array = np.asarray(inputs[value.name])
        if array.dtype != numpy_dtype(value.type.dtype) or array.ndim != value.type.rank:
            raise EdgeIRError("input does not fit", expected=repr(value), got=f"{array.dtype}{list(array.shape)}")
        shapes[value] = array.shape
    return symbol_sizes(shapes)
