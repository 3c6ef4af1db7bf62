"""Brings equal computations into one form and drops operators that do nothing.

    %t = transpose(%x) {perm = [0, 2, 1]} : float32[2, 5, 3]
    %u = transpose(%t) {perm = [0, 2, 1]} : float32[2, 3, 5]
    %z = constant float32[] [0.0]
    %y = add(%u, %z) : float32[2, 3, 5]
    return "y" = %y

becomes

    return "y" = %x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeir.ir import Graph
from edgeir.passes.canonicalize.arithmetic_rules import ARITHMETIC_RULES
from edgeir.passes.canonicalize.box_rules import BOX_RULES
from edgeir.passes.canonicalize.cast_rules import CAST_RULES
from edgeir.passes.canonicalize.clip_rules import CLIP_RULES
from edgeir.passes.canonicalize.decoder_rules import DECODER_RULES
from edgeir.passes.canonicalize.gather_rules import GATHER_RULES
from edgeir.passes.canonicalize.matmul_rules import MATMUL_RULES
from edgeir.passes.canonicalize.reshape_rules import RESHAPE_RULES
from edgeir.passes.canonicalize.transpose_rules import TRANSPOSE_RULES
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import RewriteRule

RULES: tuple[RewriteRule, ...] = (
    *ARITHMETIC_RULES,
    *CAST_RULES,
    *CLIP_RULES,
    *TRANSPOSE_RULES,
    *RESHAPE_RULES,
    *BOX_RULES,
    *GATHER_RULES,
    *DECODER_RULES,
    *MATMUL_RULES,
)


@register_pass
@dataclass(frozen=True)
class Canonicalize(Pass):
    """Applies all canonicalization rules until none fits."""

    name: ClassVar[str] = "canonicalize"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        context.apply(graph, RULES)
