"""Makes the addition of a per-channel constant the bias of a convolution: conv(x, w, b) + c → conv(x, w, b + c).

    %y = conv(%x, %w) {strides = [1], padding = [0, 0], dilations = [1]} : float32[1, 2, 4]
    %c = constant float32[2, 1] [1.0, 2.0]
    %z = add(%y, %c) : float32[1, 2, 4]

becomes

    %c = constant float32[2] [1.0, 2.0]
    %z = conv(%x, %w, %c) {strides = [1], padding = [0, 0], dilations = [1]} : float32[1, 2, 4]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeir.ir import Graph
from edgeir.passes.folding.channels import CONVOLUTIONS, bias_array, per_channel, why_not_linear
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, constant, op


class BiasRule(RewriteRule):
    """conv(x, w, b) ± c → conv(x, w, b ± c)."""

    name = "fold-bias"
    pattern = op(("add", "sub"), op(CONVOLUTIONS, single_use=True, name="conv"), constant("c"))

    def check(self, match: Match) -> str | None:
        """The constant must vary along channels only."""
        conv = match.node("conv")
        problem = why_not_linear(conv)
        if problem is not None:
            return problem
        if match.root.output.type != conv.output.type:
            return "the constant broadcasts the result"
        return None if per_channel(match["c"], conv) is not None else "the constant varies along other axes"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds in float64 and rounds once."""
        conv = match.node("conv")
        offset = per_channel(match["c"], conv)
        assert offset is not None
        bias = bias_array(conv) + (offset if match.root.op == "add" else -offset)
        array = bias.astype(match.array("c").dtype)
        rewriter.replace(
            rewriter.add(
                conv.op,
                conv.input(0),
                conv.input(1),
                rewriter.constant(array, f"{conv.output.name}_bias"),
                location=conv.location,
                **conv.attributes,
            )
        )


@register_pass
@dataclass(frozen=True)
class FoldBias(Pass):
    """Folds additions of per-channel constants into convolutions that nothing else reads."""

    name: ClassVar[str] = "fold-bias"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        context.apply(graph, (BiasRule(),))
