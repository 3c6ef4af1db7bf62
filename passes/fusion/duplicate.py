"""A dequantization for each of its readers, so that every kernel reads the integers."""

from __future__ import annotations

from collections.abc import Callable

from edgeir.ir import Graph, Node
from edgeir.passes.fusion.groups import is_constant_decoder, is_narrow_decoder


def duplicate_decoders(graph: Graph, permit: Callable[[Node], bool]) -> None:
    """Gives every reader but the first a copy of the dequantization (cast, table) of 8-bit integers that it reads.

    Args:
        graph: the graph, edited in place.
        permit: asked before each copy; False ends it.
    """
    # From the last node on, so that a copy's own decoders are copied after it.
    for node in list(graph.reversed_nodes):
        if not (is_narrow_decoder(node) or is_constant_decoder(node)):
            continue
        value = node.output
        readers = list(dict.fromkeys(value.users))
        for reader in readers if value.is_output else readers[1:]:
            if not permit(node):
                return
            copy = graph.add_node(
                node.op,
                node.inputs,
                node.attributes,
                names=[value.name],
                before=node,
                location=node.location,
                output_layouts=[value.type.layout] if node.definition.chooses_layout else None,
            )
            inputs = [copy.output if operand is value else operand for operand in reader.inputs]
            graph.set_inputs(reader, inputs)
