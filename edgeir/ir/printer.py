"""Graphs as text that a person can read and `parse_graph` reads back.

    graph "mnist" (%input: float32[1, 1, 28, 28]) {
      %w = constant float32[8, 1, 3, 3] sha256:6f1c0ad0e3b1c2d4
      %b = constant float32[2] [0.5, -1.0]
      %conv = conv(%input, %w) {padding = [1, 1, 1, 1]} : float32[1, 8, 28, 28] @"Conv_0"
      %relu = relu(%conv) : float32[1, 8, 28, 28]
      return "logits" = %relu
    }

Constants of up to 16 elements stand in the text; larger ones by type and hash, with the arrays kept aside.
Attributes equal to their defaults are not printed.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from edgeir.ir.graph import Graph
from edgeir.ir.op import REQUIRED, Attribute, Kind
from edgeir.ir.values import Node, Value

INLINE_ELEMENTS = 16
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][\w.\-/]*\Z")


def print_graph(graph: Graph, indent: str = "") -> str:
    """The text of a graph, without a trailing newline."""
    arguments = ", ".join(f"{value_name(value)}: {value.type}" for value in graph.inputs)
    inner = indent + "  "
    lines = [f"graph {json.dumps(graph.name)} ({arguments}) {{"]
    lines += [f"{inner}{print_constant(value)}" for value in graph.constants]
    lines += [f"{inner}{print_node(node, inner)}" for node in graph.nodes]
    results = ", ".join(
        f"{json.dumps(name)} = {value_name(value)}"
        for name, value in zip(graph.output_names, graph.outputs, strict=True)
    )
    lines.append(f"{inner}return {results}".rstrip())
    lines.append(f"{indent}}}")
    return "\n".join(lines)


def print_constant(value: Value) -> str:
    """`%name = constant type data`, with the data in the text only when it is small."""
    if value.data.size <= INLINE_ELEMENTS:
        data = "[" + ", ".join(_element(item) for item in value.data.ravel()) + "]"
    else:
        data = f"sha256:{value.digest}"
    return f"{value_name(value)} = constant {value.type} {data}"


def print_node(node: Node, indent: str = "") -> str:
    """One node on one line (a body takes further lines)."""
    outputs = ", ".join(value_name(value) for value in node.outputs)
    operands = ", ".join("_" if value is None else value_name(value) for value in node.inputs)
    types = ", ".join(str(value.type) for value in node.outputs)
    shown = []
    for key, spec in node.definition.attributes.items():
        value = node.attributes.get(key)
        if spec.default is REQUIRED or value != spec.default:
            shown.append(f"{key} = {print_attribute(spec, value, indent)}")
    attributes = f" {{{', '.join(shown)}}}" if shown else ""
    place = f" @{json.dumps(node.location)}" if node.location else ""
    return f"{outputs} = {node.op}({operands}){attributes} : {types}{place}"


def print_attribute(spec: Attribute, value: Any, indent: str = "") -> str:
    """The text of one attribute value."""
    if value is None:
        return "none"
    if spec.kind is Kind.GRAPH:
        return print_graph(value, indent)
    if isinstance(value, tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    return _scalar(value)


def value_name(value: Value) -> str:
    """`%name`, quoted where the name needs it."""
    return f"%{value.name}" if _PLAIN_NAME.match(value.name) else f"%{json.dumps(value.name)}"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value)
    return str(value)


def _element(item: Any) -> str:
    if isinstance(item, np.bool_):
        return "true" if item else "false"
    if isinstance(item, np.integer):
        return str(int(item))
    if isinstance(item, np.floating):
        # The shortest text that reads back to the same element.
        return repr(float(item)) if item.dtype == np.float64 else str(item)
    return str(item)
