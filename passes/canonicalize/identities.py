"""A rule that replaces an operator by one of its operands."""

from __future__ import annotations

from edgeir.rewrite import Match, Rewriter, RewriteRule


class OperandRule(RewriteRule):
    """Replaces the root by the value matched as `x`, which must have the root's type."""

    def check(self, match: Match) -> str | None:
        """Broadcasting may make the root larger than its operand."""
        return None if match["x"].type == match.root.output.type else "the operand has another type than the result"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Replaces."""
        rewriter.replace(match["x"])
