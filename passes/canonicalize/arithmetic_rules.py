"""Arithmetic that does nothing.

x + 0 → x;  x − 0 → x;  x · 1 → x;  x / 1 → x;  x¹ → x;  −(−x) → x;  not(not x) → x;  f(f(x)) → f(x) for idempotent f;
where(constant condition, a, b) → a or b.
"""

from __future__ import annotations

import numpy as np

from edgeir.passes.canonicalize.identities import OperandRule
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, constant, op


def _all(number: float):
    return lambda array: bool(array.size) and bool((array == np.array(number).astype(array.dtype)).all())


class AddZero(OperandRule):
    """x + 0 → x."""

    name = "add-zero"
    pattern = op("add", anything("x"), constant(where=_all(0)))


class SubtractZero(OperandRule):
    """x − 0 → x."""

    name = "subtract-zero"
    pattern = op("sub", anything("x"), constant(where=_all(0)))


class MultiplyByOne(OperandRule):
    """x · 1 → x."""

    name = "multiply-by-one"
    pattern = op("mul", anything("x"), constant(where=_all(1)))


class DivideByOne(OperandRule):
    """x / 1 → x, and x to the power of 1 → x."""

    name = "divide-by-one"
    pattern = op(("div", "pow"), anything("x"), constant(where=_all(1)))


class DoubleNegation(OperandRule):
    """−(−x) → x."""

    name = "double-negation"
    pattern = op("neg", op("neg", anything("x")))


class DoubleNot(OperandRule):
    """not(not x) → x."""

    name = "double-not"
    pattern = op("logical_not", op("logical_not", anything("x")))


class Idempotent(OperandRule):
    """f(f(x)) → f(x)."""

    name = "idempotent"
    _ops = ("abs", "relu", "floor", "ceil", "round", "sign")
    pattern = op(_ops, op(_ops, name="x"))

    def check(self, match: Match) -> str | None:
        """Both must be the same function."""
        same = match.node("x").op == match.root.op
        return super().check(match) if same else "different functions"


class ConstantCondition(RewriteRule):
    """where(c, a, b) → a where every element of the constant c is true, b where none is."""

    name = "constant-condition"
    pattern = op("where", constant("c"), anything("a"), anything("b"))

    def _chosen(self, match: Match) -> str | None:
        condition = match.array("c")
        return "a" if condition.all() else "b" if not condition.any() else None

    def check(self, match: Match) -> str | None:
        """The condition must be uniform, and the chosen operand of full size."""
        chosen = self._chosen(match)
        if chosen is None:
            return "the condition is not uniform"
        return None if match[chosen].type == match.root.output.type else "the operand is broadcast"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Replaces by the chosen operand."""
        rewriter.replace(match[self._chosen(match) or "a"])


ARITHMETIC_RULES: tuple[RewriteRule, ...] = (
    AddZero(),
    SubtractZero(),
    MultiplyByOne(),
    DivideByOne(),
    DoubleNegation(),
    DoubleNot(),
    Idempotent(),
    ConstantCondition(),
)
