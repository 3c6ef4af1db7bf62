"""One `clip` (or `relu`) for every chain of limits.

maximum(x, c) → clip(x, c, none);  minimum(x, c) → clip(x, none, c);  clip(x, 0, none) → relu(x);
clip(clip(x, a, b), c, d) → clip(x, …), where relu counts as clip(0, none).
"""

from __future__ import annotations

import math

import numpy as np

from edgeir.ir import Node, Value
from edgeir.ir.dtype import FLOATS
from edgeir.passes.canonicalize.identities import OperandRule
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, constant, op


def limits(node: Node) -> tuple[float, float]:
    """Lower and upper limit of a clip or relu."""
    if node.op == "relu":
        return 0.0, math.inf
    low, high = node.attributes["minimum"], node.attributes["maximum"]
    return -math.inf if low is None else low, math.inf if high is None else high


def add_limits(rewriter: Rewriter, x: Value, low: float, high: float) -> Value:
    """Adds the operator that limits x."""
    if low == 0 and high == math.inf:
        return rewriter.add("relu", x)
    return rewriter.add(
        "clip", x, minimum=None if low == -math.inf else low, maximum=None if high == math.inf else high
    )


def _is_exact(array: np.ndarray) -> bool:
    """One number that a float attribute holds exactly."""
    return array.size == 1 and array.dtype.kind != "b" and abs(float(array.item())) <= 2.0**53


class MinimumToClip(RewriteRule):
    """minimum or maximum with a constant number → clip."""

    name = "minimum-to-clip"
    pattern = op(("minimum", "maximum"), anything("x"), constant("c", where=_is_exact))

    def check(self, match: Match) -> str | None:
        """The constant may have a higher rank."""
        return None if match["x"].type == match.root.output.type else "the constant broadcasts the operand"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the clip."""
        number = float(match.array("c").item())
        lower = match.root.op == "maximum"
        rewriter.replace(
            add_limits(rewriter, match["x"], number if lower else -math.inf, math.inf if lower else number)
        )


class ClipToRelu(RewriteRule):
    """clip(x, 0, none) → relu(x)."""

    name = "clip-to-relu"
    pattern = op("clip", anything("x"), minimum=0.0, maximum=None)

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the relu."""
        rewriter.replace(rewriter.add("relu", match["x"]))


class ClipWithoutLimits(OperandRule):
    """clip(x, none, none) → x."""

    name = "clip-without-limits"
    pattern = op(
        "clip", anything("x"), minimum=lambda low: low in (None, -math.inf), maximum=lambda h: h in (None, math.inf)
    )


class ClipOfClip(RewriteRule):
    """clip(clip(x)) → clip(x): limits are monotone functions, so the limits of the composition are the images of ±∞."""

    name = "clip-of-clip"
    pattern = op(("clip", "relu"), op(("clip", "relu"), anything("x"), name="inner"))

    def check(self, match: Match) -> str | None:
        """Two limits of an integer tensor may round differently."""
        for node in (match.root, match.node("inner")):
            bounds = [bound for bound in limits(node) if math.isfinite(bound)]
            if match["x"].type.dtype not in FLOATS and any(bound != int(bound) for bound in bounds):
                return "limits of an integer tensor are not whole numbers"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Composes."""
        ends = []
        for end in (-math.inf, math.inf):
            for low, high in (limits(match.node("inner")), limits(match.root)):
                end = min(max(end, low), high)
            ends.append(end)
        rewriter.replace(add_limits(rewriter, match["x"], *ends))


CLIP_RULES: tuple[RewriteRule, ...] = (MinimumToClip(), ClipWithoutLimits(), ClipToRelu(), ClipOfClip())
