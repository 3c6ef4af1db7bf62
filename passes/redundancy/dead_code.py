"""Removes what nothing uses.

    %a = relu(%x) : float32[4]
    %b = exp(%x) : float32[4]
    return "y" = %a

becomes

    %a = relu(%x) : float32[4]
    return "y" = %a
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeir.ir import Graph
from edgeir.passmanager import Pass, PassContext, register_pass


@register_pass
@dataclass(frozen=True)
class DeadCode(Pass):
    """Erases nodes without used results, and constants without uses. Inputs stay: they are the graph's interface."""

    name: ClassVar[str] = "dead-code"

    def run(self, graph: Graph, context: PassContext) -> None:
        """One walk from the end, so that a node is seen after all its users."""
        for node in reversed(list(graph.nodes)):
            if any(value.is_used for value in node.outputs):
                continue
            if not context.permit(self.name, node):
                break
            graph.erase(node)
        graph.remove_unused_constants()
