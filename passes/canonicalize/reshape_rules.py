"""Fewer reshapes, and reshapes after the work instead of inside it.

reshape(x, shape of x) → x;  reshape(reshape(x, s), t) → reshape(x, t);  reduction over axes of size 1 → reshape;
f(reshape(a)) → reshape(f(a)) for an elementwise f where a comes from an anchor, so that f joins its kernel.
"""

from __future__ import annotations

from edgeir.ir import Node, Pattern, Value
from edgeir.passes.canonicalize.identities import OperandRule
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, constant, op


class ReshapeToSameShape(OperandRule):
    """reshape(x, shape of x) → x."""

    name = "reshape-to-same-shape"
    pattern = op("reshape", anything("x"))


class ReshapeOfReshape(RewriteRule):
    """reshape(reshape(x, s), t) → reshape(x, t)."""

    name = "reshape-of-reshape"
    pattern = op("reshape", op("reshape", anything("x")))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Reshapes once."""
        rewriter.replace(rewriter.add("reshape", match["x"], shape=match.root.attributes["shape"]))


def _reduces_unit_axes_only(node: Node) -> bool:
    shape = node.input(0).type.shape
    return all(shape[axis] == 1 for axis in node.attributes["axes"])


class UnitReduction(RewriteRule):
    """A reduction over axes of size 1 leaves every element as it is."""

    name = "unit-reduction"
    pattern = op(
        ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"),
        anything("x"),
        where=_reduces_unit_axes_only,
    )

    def check(self, match: Match) -> str | None:
        """Blocked layouts cannot be reshaped."""
        return "the operand is not plain" if match["x"].type.layout else None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the reshape."""
        rewriter.replace(rewriter.add("reshape", match["x"], shape=match.root.output.type.shape))


_LONGEST_EPILOGUE = 16


def _from_anchor(value: Value) -> bool:
    """Whether the value is an anchor's result, or elementwise work of the same shape on one."""
    shape = value.type.shape
    for _ in range(_LONGEST_EPILOGUE):
        producer = value.producer
        if producer is None:
            return False
        pattern = producer.definition.pattern
        if pattern is not Pattern.ELEMENTWISE:
            return pattern is Pattern.ANCHOR
        same = [operand for operand in producer.present_inputs if operand.producer and operand.type.shape == shape]
        if not same:
            return False
        value = same[0]
    return False


_UNARY = (
    *("abs", "neg", "exp", "log", "sqrt", "erf", "tanh", "relu", "sigmoid", "clip", "leaky_relu", "cast"),
    *("floor", "ceil", "round", "sign", "reciprocal", "sin", "cos"),
)


class UnaryOverReshape(RewriteRule):
    """f(reshape(a)) → reshape(f(a))."""

    name = "unary-over-reshape"
    pattern = op(_UNARY, op("reshape", anything("x", where=_from_anchor), single_use=True))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Swaps the two."""
        moved = rewriter.add(match.root.op, match["x"], **match.root.attributes)
        rewriter.replace(rewriter.add("reshape", moved, shape=match.root.output.type.shape))


class ConstantOverReshape(RewriteRule):
    """reshape(a) + c → reshape(a + c) for a constant number, or a constant along a last axis that the reshape keeps."""

    name = "constant-over-reshape"
    pattern = op(
        ("add", "mul", "sub", "div"),
        op("reshape", anything("x", where=_from_anchor), single_use=True, name="reshaped"),
        constant("c"),
    )

    def check(self, match: Match) -> str | None:
        """The constant must mean the same before the reshape."""
        if match["reshaped"].type != match.root.output.type:
            return "the constant broadcasts the operand"
        if match["c"] is match.root.input(0) and match.root.op in ("sub", "div"):
            return "the constant is the left operand"
        shape, before, after = match["c"].type.shape, match["x"].type.shape, match["reshaped"].type.shape
        if all(dim == 1 for dim in shape):
            return None
        along_last = all(dim == 1 for dim in shape[:-1]) and before and before[-1] == after[-1] == shape[-1]
        return None if along_last else "the constant varies along axes that the reshape changes"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Swaps the two."""
        array = match.array("c")
        flat = rewriter.constant(array.reshape(() if array.size == 1 else (array.size,)), match["c"].name)
        moved = rewriter.add(match.root.op, match["x"], flat)
        rewriter.replace(rewriter.add("reshape", moved, shape=match.root.output.type.shape))


RESHAPE_RULES: tuple[RewriteRule, ...] = (
    ReshapeToSameShape(),
    ReshapeOfReshape(),
    UnitReduction(),
    UnaryOverReshape(),
    ConstantOverReshape(),
)
