"""A graph with a fixed batch as one that takes any batch, as training needs.

%x: float32[1, 16, 4, 4]                            %x: float32[N, 16, 4, 4]
%y = reshape(%x) {shape = [1, 256]}      becomes    %y = reshape(%x) {shape = [N, 256]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.ir import Dim, Graph, Node, TensorType, Value, print_graph, symbol
from edgeir.ir.clone import copy_node

_SHAPES = {"reshape": "shape", "expand": "shape", "slice": "sizes", "resize": "sizes"}
"""Operators that say their result's shape, and the attribute that says it."""


def open_batch(graph: Graph, name: str = "N") -> Graph:
    """A copy whose inputs' first axis is a symbol; the graph itself if it has one there already.

    Args:
        graph: all its inputs with a rank have the same first dimension, the batch.
        name: of the symbol.

    Raises:
        EdgeIRError: first dimensions differ, or an operator depends on the batch's size; the node is named.
    """
    sizes = {value.type.shape[0] for value in graph.inputs if value.type.rank}
    if not any(isinstance(size, int) for size in sizes):
        return graph
    if len(sizes) != 1:
        raise EdgeIRError("inputs differ in their first dimension", got=", ".join(map(repr, graph.inputs)))
    (size,) = sizes
    batch = symbol(name)
    result = Graph(graph.name)
    mapping: dict[Value, Value] = {}
    for value in graph.inputs:
        type = value.type
        shape = (batch, *type.shape[1:]) if type.rank else type.shape
        mapping[value] = result.add_input(value.name, TensorType(type.dtype, shape, type.layout))
    for value in graph.constants:
        mapping[value] = result.add_constant(value.data, value.name, value.type.layout)
    try:
        for node in graph.nodes:
            _copy(result, node, mapping, batch, size)
        result.set_outputs([(n, mapping[v]) for n, v in zip(graph.output_names, graph.outputs, strict=True)])
        same = isinstance(size, int) and print_graph(result.bind({name: size})) == print_graph(graph)
    except EdgeIRError as error:
        raise EdgeIRError(
            "the batch cannot be left open", where=error.where, expected=error.expected, got=error.what, hint=error.hint
        ) from None
    if not same or any(value.type.rank and value.type.shape[0] != batch for value in result.outputs):
        raise EdgeIRError("the batch cannot be left open", where=f"graph {graph.name}", got="outputs without a batch")
    return result


def _copy(graph: Graph, node: Node, mapping: dict[Value, Value], batch: Dim, size: Dim) -> None:
    key = _SHAPES.get(node.op)
    source = node.input(0) if key is not None else None
    batched = source is not None and source.type.rank and mapping[source].type.shape[0] == batch
    if key is None or not batched or node.attributes[key][:1] != (size,):
        copy_node(graph, node, mapping)
        return
    attributes: Mapping[str, Any] = {**node.attributes, key: (batch, *node.attributes[key][1:])}
    copied = graph.add_node(
        node.op,
        [None if value is None else mapping[value] for value in node.inputs],
        attributes,
        names=[value.name for value in node.outputs],
        location=node.location,
    )
    mapping.update(zip(node.outputs, copied.outputs, strict=True))
