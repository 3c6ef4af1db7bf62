"""Groups operators into `fused` nodes; one fused node becomes one kernel.

    %c = conv(%x, %w, %b) {strides = [1, 1], padding = [1, 1, 1, 1], dilations = [1, 1]} : float32[1, 8, 8, 8]
    %r = relu(%c) : float32[1, 8, 8, 8]
    %s = add(%r, %y) : float32[1, 8, 8, 8]

becomes

    %s = fused(%x, %w, %b, %y) {body = graph "conv_relu_add" (…) { … }, anchor = "conv"} : float32[1, 8, 8, 8]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from edgeir.ir import Graph
from edgeir.passes.fusion.attention import attention_groups
from edgeir.passes.fusion.duplicate import duplicate_decoders
from edgeir.passes.fusion.groups import Grouping, Limits
from edgeir.passes.fusion.outline import outline
from edgeir.passmanager import Pass, PassContext, register_pass


@register_pass
@dataclass(frozen=True)
class FuseOperators(Pass):
    """Puts every computing node into exactly one fused node; plain reshapes that stand alone stay, as views.

    Attributes:
        max_operands: the most tensors that a kernel may read.
        max_nodes: the most operators in a kernel.
        attention: whether softmax(q·kᵀ)·v becomes one kernel, where the target is a CPU whose vectors and caches suit
            it. Without a target it does not.
    """

    name: ClassVar[str] = "fuse-operators"
    max_operands: int = 24
    max_nodes: int = 64
    attention: bool = True

    def run(self, graph: Graph, context: PassContext) -> None:
        """Copies decoders for each of their readers, forms all groups, then replaces each by a fused node."""
        duplicate_decoders(graph, lambda node: context.permit("duplicate-decoder", node))
        target = context.target if self.attention else None
        for group in Grouping(graph, Limits(self.max_operands, self.max_nodes), target).form():
            if not context.permit(self.name, group.sink):
                break
            outline(graph, group)
        graph.remove_unused_constants()

    def alternatives(self, graph: Graph, context: PassContext) -> tuple[Pass, ...]:
        """Attention as one kernel if it would be several, and the reverse; nothing where there is none."""
        return (replace(self, attention=not self.attention),) if attention_groups(graph, context.target) else ()
