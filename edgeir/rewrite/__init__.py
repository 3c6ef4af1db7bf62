"""Local rewriting: patterns, rules, and the driver that applies rules until none fits."""

from edgeir.rewrite.driver import RewriteResult, apply_rules
from edgeir.rewrite.pattern import Match, OperandPattern, anything, constant, op, single_use
from edgeir.rewrite.rule import Rewriter, RewriteRule

__all__ = [
    "Match",
    "OperandPattern",
    "RewriteResult",
    "RewriteRule",
    "Rewriter",
    "anything",
    "apply_rules",
    "constant",
    "op",
    "single_use",
]
