"""Multiplies constants into the weights before them: conv(x, w, b)·c → conv(x, w·c, b·c); (a·b)·c → a·(b·c).

    %y = matmul(%x, %w) : float32[1, 2]
    %c = constant float32[2] [2.0, 4.0]
    %z = mul(%y, %c) : float32[1, 2]

becomes

    %z = matmul(%x, %w_scaled) : float32[1, 2]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeir.ir import Graph
from edgeir.ir.dtype import FLOATS
from edgeir.passes.folding.channels import (
    LINEAR,
    bias_array,
    bias_of,
    per_channel,
    scaled_weights,
    why_not_linear,
)
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, constant, op


class ScaleRule(RewriteRule):
    """linear(x, w, b)·c → linear(x, w·c, b·c); division by c likewise."""

    name = "fold-scale"
    pattern = op(("mul", "div"), op(LINEAR, single_use=True, name="linear"), constant("c"))

    def check(self, match: Match) -> str | None:
        """The constant must vary along channels only, and be finite."""
        linear = match.node("linear")
        problem = why_not_linear(linear)
        if problem is not None:
            return problem
        if match.root.output.type != linear.output.type:
            return "the constant broadcasts the result"
        factor = per_channel(match["c"], linear)
        if factor is None:
            return "the constant varies along other axes"
        if not np.isfinite(factor).all() or (match.root.op == "div" and not factor.all()):
            return "the constant is not finite, or a divisor is zero"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Scales weights and bias."""
        linear = match.node("linear")
        factor = per_channel(match["c"], linear)
        assert factor is not None
        factor = 1 / factor if match.root.op == "div" else factor
        weights = linear.input(1)
        operands = [linear.input(0), rewriter.constant(scaled_weights(linear, factor), f"{weights.name}_scaled")]
        bias = bias_of(linear)
        if bias is not None:
            array = (bias_array(linear) * factor).astype(bias.data.dtype)
            operands.append(rewriter.constant(array, f"{bias.name}_scaled"))
        rewriter.replace(rewriter.add(linear.op, *operands, location=linear.location, **linear.attributes))


class ScaleOverSum(RewriteRule):
    """(matmul(x, w) + b)·c → matmul(x, w)·c + b·c, so that the scale reaches the weights."""

    name = "scale-over-sum"
    pattern = op(
        "mul",
        op("add", op("matmul", single_use=True, name="linear"), constant("b"), single_use=True, name="sum"),
        constant("c"),
    )

    def check(self, match: Match) -> str | None:
        """Only where the scale can then be folded."""
        linear = match.node("linear")
        problem = why_not_linear(linear)
        if problem is not None:
            return problem
        if (
            not (match.root.output.type == match["sum"].type == linear.output.type)
            or linear.output.type.dtype not in FLOATS
        ):
            return "a constant broadcasts the result"
        return None if per_channel(match["c"], linear) is not None else "the constant varies along other axes"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Distributes."""
        b, c = match.array("b"), match.array("c")
        product = (b.astype(np.float64) * c.astype(np.float64)).astype(b.dtype)
        scaled = rewriter.add("mul", match["linear"], match["c"])
        rewriter.replace(rewriter.add("add", scaled, rewriter.constant(product, f"{match['b'].name}_scaled")))


@register_pass
@dataclass(frozen=True)
class FoldScale(Pass):
    """Folds multiplications by per-channel constants into the weights before them."""

    name: ClassVar[str] = "fold-scale"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        context.apply(graph, (ScaleRule(), ScaleOverSum()))
