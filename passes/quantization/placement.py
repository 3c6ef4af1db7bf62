"""Which values become integers, and which of them share scale and zero point.

Operators are looked at in groups that compute in one go (`Placement`). From the outputs backwards, a value is wanted
as integers if a group that reads it computes with integers (a convolution or product), or only moves, pools or maps
data and its own result is wanted. What softmax, normalization and other operators read that need their input's full
precision stays float, and so do the graph's outputs.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import networkx
import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, Value
from edgeir.passes.fusion.groups import Group, Grouping, Limits
from edgeir.passes.quantization.portable_grouping import PortableGrouping

Placement = Literal["portable", "fused"]
"""`portable`: around every quantizable operator, as onnxruntime expects. `fused`: at the boundaries of kernels only."""

INTEGER_ANCHORS = frozenset({"conv", "conv_transpose", "matmul"})

MOVEMENT = frozenset(
    {"reshape", "transpose", "slice", "concat", "pad", "expand", "tile", "gather", "max_pool", "layout_cast", "resize"}
)
"""Operators whose results are among their operands' elements."""

SMOOTH = frozenset(
    {"add", "sub", "mul", "div", "minimum", "maximum", "relu", "clip", "leaky_relu", "abs", "neg", "sigmoid", "tanh",
     "erf", "where", "average_pool", "reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "resize"}
)  # fmt: skip
"""Operators that a small error of an operand moves little."""

FLOATS = frozenset({"float32", "float16", "bfloat16", "float64"})


@dataclass(frozen=True)
class Plan:
    """Where numbers are rounded.

    Attributes:
        classes: values that share scale and zero point, each class in the graph's order; all are to be quantized.
        layers: node with integer arithmetic → the value that its group computes.
    """

    classes: tuple[tuple[Value, ...], ...]
    layers: dict[Node, Value]

    @property
    def values(self) -> Iterator[Value]:
        """All values to be quantized."""
        return (value for values in self.classes for value in values)


def plan(graph: Graph, placement: Placement = "portable", skip: Collection[str] = ()) -> Plan:
    """Decides on the values to quantize.

    Args:
        graph: float, of plain operators (no `fused` nodes).
        placement: see `Placement`.
        skip: operators (`matmul`) or names (of a node's place in the model, or of its result) that stay float.

    Raises:
        EdgeIRError: nothing in the graph has a name in `skip`, or the graph is fused already.
    """
    skipped = skipped_nodes(graph, skip)
    groups = _groups(graph, placement)
    wanted: set[Value] = set()
    sharing: networkx.Graph = networkx.Graph()
    for group in reversed(groups):
        members = set(group.members)
        if members & skipped:
            continue
        results = group.sink.outputs
        operands = [value for value in group.operands() if _may_be_quantized(value)]
        read = any(value in wanted for value in results)
        if read and all(moves_only(node) for node in members):
            wanted.update(operands)
            sharing.add_edges_from((result, value) for result in results for value in operands)
        elif read and all(_is_smooth(node) for node in members):
            wanted.update(operands)
        else:
            anchors = [node for node in members if node.op in INTEGER_ANCHORS]
            wanted.update(value for node in anchors for value in node.present_inputs[:2] if value in operands)
    order = {value: index for index, value in enumerate(_values(graph)) if value in wanted}
    sharing.add_nodes_from(order)
    found = [
        sorted(members & order.keys(), key=order.__getitem__) for members in networkx.connected_components(sharing)
    ]
    classes = sorted((tuple(values) for values in found if values), key=lambda values: order[values[0]])
    layers = {
        node: group.sink.output
        for group in groups
        for node in group.members
        if node.op in INTEGER_ANCHORS and node not in skipped
    }
    return Plan(tuple(classes), layers)


def skipped_nodes(graph: Graph, skip: Collection[str]) -> set[Node]:
    """The nodes that names of operators, places or results stand for.

    Raises:
        EdgeIRError: a name stands for none.
    """
    found: set[Node] = set()
    for name in skip:
        nodes = [n for n in graph.nodes if name in (n.op, n.location) or any(name == v.name for v in n.outputs)]
        if not nodes:
            known = sorted(
                {node.location or node.outputs[0].name for node in graph.nodes if node.op in INTEGER_ANCHORS}
            )
            near = difflib.get_close_matches(name, known, 3)
            raise EdgeIRError(
                "nothing to be left in float has this name",
                got=name,
                expected="an operator, a node's place in the model, or its result's name",
                hint=f"did you mean {', '.join(near)}?" if near else None,
            )
        found.update(nodes)
    return found


def moves_only(node: Node) -> bool:
    """Whether a node's results are among its operand's elements, zeros aside."""
    if node.op == "pad":
        fill = node.inputs[1] if len(node.inputs) > 1 else None
        return node.attributes["mode"] != "constant" or fill is None or (fill.is_constant and not np.any(fill.data))
    return node.op in MOVEMENT and (node.op != "resize" or node.attributes["mode"] == "nearest")


def _is_smooth(node: Node) -> bool:
    if node.op == "div":
        return node.input(1).is_constant
    return node.op in SMOOTH or node.op in INTEGER_ANCHORS or moves_only(node)


def _may_be_quantized(value: Value) -> bool:
    if value.is_constant or value.type.dtype not in FLOATS or 0 in value.type.shape:
        return False
    return value.producer is None or value.producer.op not in ("dequantize", "log_dequantize")


def _groups(graph: Graph, placement: Placement) -> list[Group]:
    if any(node.op == "fused" for node in graph.nodes):
        raise EdgeIRError("a fused graph cannot be quantized", hint="quantize before fuse-operators")
    limits = Limits()
    grouping = PortableGrouping(graph, limits) if placement == "portable" else Grouping(graph, limits)
    groups = grouping.form()
    # Reshapes that stand alone belong to no group.
    lone = [Group(node, None, {node: None}) for node in graph.nodes if node not in grouping.group_of]
    return sorted((*groups, *lone), key=lambda group: grouping.position[group.sink])


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.outputs
