"""Moving a group of nodes into the body of a `fused` node."""

from __future__ import annotations

from edgeir.ir import Graph, Node, Value
from edgeir.ir.clone import copy_node
from edgeir.passes.fusion.groups import Group, is_scalar_constant

_NAMED_OPS = 6


def outline(graph: Graph, group: Group) -> Node:
    """Replaces the group by one fused node at the place of its sink; returns that node."""
    ordered = _in_order(group)
    operations = [node.op for node in ordered]
    name = "_".join(operations[:_NAMED_OPS]) + (
        f"_and_{len(ordered) - _NAMED_OPS}" if len(ordered) > _NAMED_OPS else ""
    )
    body = Graph(name)
    mapping: dict[Value, Value] = {}
    operands: list[Value] = []
    for node in ordered:
        for value in node.present_inputs:
            if value in mapping:
                continue
            if is_scalar_constant(value):
                mapping[value] = body.add_constant(value.data, value.name, value.type.layout)
            else:
                mapping[value] = body.add_input(body.fresh_name(value.name), value.type)
                operands.append(value)
        copy_node(body, node, mapping)
    sink = group.sink
    body.set_outputs([(value.name, mapping[value]) for value in sink.outputs])
    anchor = group.anchor
    fused = graph.add_node(
        "fused",
        operands,
        {"body": body, "anchor": anchor.op if anchor is not None else ""},
        names=[value.name for value in sink.outputs],
        before=sink,
        location=(anchor if anchor is not None and anchor.location else sink).location,
    )
    names = [value.name for value in sink.outputs]
    graph.replace_node(sink, fused.outputs)
    for node in reversed(ordered[:-1]):
        graph.erase(node)
    for value, wanted in zip(fused.outputs, names, strict=True):
        graph.rename(value, graph.fresh_name(wanted))
    return fused


def _in_order(group: Group) -> list[Node]:
    """The members, producers first."""
    ordered: dict[Node, None] = {}
    pending = [group.sink]
    while pending:
        node = pending[-1]
        missing = [
            value.producer
            for value in node.present_inputs
            if value.producer in group.members and value.producer not in ordered and value.producer is not None
        ]
        if missing:
            pending.extend(missing)
        else:
            ordered.setdefault(pending.pop())
    return list(ordered)
