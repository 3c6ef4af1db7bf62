"""The nodes that become one kernel."""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph, Node, Value
from edgeir.ir.op import Pattern

_STRENGTH = (Pattern.OPAQUE, Pattern.REDUCTION, Pattern.INJECTIVE, Pattern.ELEMENTWISE)


@dataclass(frozen=True)
class Region:
    """The nodes that become one kernel.

    Attributes:
        nodes: the nodes in order.
        inputs: the values that they read from outside, as they know them.
        outer: the same values in the graph that the kernel is called from.
        outputs: the values that they hand out.
        anchor: the node that does the heavy work, or None.
        label: the anchor's name, or the pattern of the region.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outer: tuple[Value, ...]
    outputs: tuple[Value, ...]
    anchor: Node | None
    label: str


def region_of(node: Node) -> Region:
    """The region of a `fused` node, or of any other node by itself.

    Raises:
        EdgeIRError: a fused node lacks an operand.
    """
    if node.op != "fused":
        values = tuple(dict.fromkeys(v for v in node.present_inputs if not is_scalar(v)))
        anchored = node.definition.pattern is Pattern.ANCHOR
        label = node.op if anchored else node.definition.pattern.value
        return Region((node,), values, values, node.outputs, node if anchored else None, label)
    body: Graph = node.attributes["body"]
    nodes = tuple(body.nodes)
    outer = node.present_inputs
    if len(outer) != len(body.inputs):
        raise EdgeIRError("a fused node lacks operands", where=str(node), expected=len(body.inputs), got=len(outer))
    name = node.attributes["anchor"]
    anchor = next((inner for inner in nodes if inner.op == name), None)
    found = {inner.definition.pattern for inner in nodes}
    label = name or next((p.value for p in _STRENGTH if p in found), Pattern.ELEMENTWISE.value)
    return Region(nodes, body.inputs, outer, body.outputs, anchor, label)


def is_scalar(value: Value) -> bool:
    """Whether a value is a constant of one element, which a kernel has in its code."""
    return value.is_constant and value.data.size == 1 and not value.type.layout
