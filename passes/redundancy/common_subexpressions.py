"""Computes equal things once.

    %a = exp(%x) : float32[4]
    %b = exp(%x) : float32[4]
    %y = add(%a, %b) : float32[4]

becomes

    %a = exp(%x) : float32[4]
    %y = add(%a, %a) : float32[4]
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from edgeir.ir import Graph, Node, Value
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite.pattern import COMMUTATIVE


@register_pass
@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Replaces a node by an earlier one with the same operator, operands and attributes; merges equal constants."""

    name: ClassVar[str] = "common-subexpressions"

    def run(self, graph: Graph, context: PassContext) -> None:
        """One walk in order: by then, operands have been merged."""
        self._merge_constants(graph)
        seen: dict[Hashable, Node] = {}
        for node in graph.nodes:
            key = _key(node)
            if key is None:
                continue
            first = seen.setdefault(key, node)
            if first is node:
                continue
            if not context.permit(self.name, node):
                break
            graph.replace_node(node, first.outputs)
        graph.remove_unused_constants()

    def _merge_constants(self, graph: Graph) -> None:
        groups: dict[Hashable, list[Value]] = {}
        for value in graph.constants:
            groups.setdefault(value.type, []).append(value)
        for same_type in groups.values():
            # Only arrays of one type can be equal, so that most large weights are never hashed.
            seen: dict[str, Value] = {}
            for value in same_type if len(same_type) > 1 else ():
                first = seen.setdefault(value.digest, value)
                if first is not value:
                    graph.replace_all_uses(value, first)


def _key(node: Node) -> Hashable | None:
    if any(isinstance(value, Graph) for value in node.attributes.values()):
        return None
    operands = [id(value) for value in node.inputs]
    if node.op in COMMUTATIVE:
        operands.sort()
    types = tuple(value.type for value in node.outputs)
    # repr tells 0.0 from −0.0, which == does not.
    attributes = tuple((key, repr(value)) for key, value in node.attributes.items())
    return (node.op, tuple(operands), attributes, types)
