"""Slices, pads, expands, tiles and concatenations that do nothing or can be one.

slice(x, all) → x;  slice(slice(x)) → slice(x);  pad by 0 → x;  expand or tile to the same shape → x;
expand(expand(x, s), t) → expand(x, t);  concat(x) → x;  concat(concat(a, b), c) → concat(a, b, c).
"""

from __future__ import annotations

from edgeir.ir import Node, Value
from edgeir.passes.canonicalize.identities import OperandRule
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, op, single_use


def _is_whole(node: Node) -> bool:
    attributes = node.attributes
    return (
        attributes["sizes"] == node.input(0).type.shape
        and all(start == 0 for start in attributes["starts"])
        and all(step == 1 for step in attributes["steps"])
    )


class WholeSlice(OperandRule):
    """slice(x, everything) → x."""

    name = "whole-slice"
    pattern = op("slice", anything("x"), where=_is_whole)


class SliceOfSlice(RewriteRule):
    """slice(slice(x, s₁, k₁), s₂, k₂) → slice(x, s₁ + s₂·k₁, k₁·k₂)."""

    name = "slice-of-slice"
    pattern = op("slice", op("slice", anything("x"), name="inner"))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Composes the two index functions."""
        inner, outer = match.node("inner").attributes, match.root.attributes
        steps = inner["steps"]
        starts = tuple(a + b * k for a, b, k in zip(inner["starts"], outer["starts"], steps, strict=True))
        steps = tuple(a * b for a, b in zip(steps, outer["steps"], strict=True))
        rewriter.replace(rewriter.add("slice", match["x"], starts=starts, sizes=outer["sizes"], steps=steps))


class ZeroPad(OperandRule):
    """pad(x, nothing) → x."""

    name = "zero-pad"
    pattern = op("pad", anything("x"), padding=lambda padding: not any(padding))


class ExpandToSameShape(OperandRule):
    """expand or tile to the shape that x has → x."""

    name = "expand-to-same-shape"
    pattern = op(("expand", "tile"), anything("x"))

    def check(self, match: Match) -> str | None:
        """Equal shapes leave only the repeat by 1, or a tensor without elements."""
        return super().check(match)


class ExpandOfExpand(RewriteRule):
    """expand(expand(x, s), t) → expand(x, t)."""

    name = "expand-of-expand"
    pattern = op("expand", op("expand", anything("x")))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Expands once."""
        rewriter.replace(rewriter.add("expand", match["x"], shape=match.root.attributes["shape"]))


class ConcatOfOne(OperandRule):
    """concat(x) → x."""

    name = "concat-of-one"
    pattern = op("concat", anything("x"), where=lambda node: len(node.inputs) == 1)


def _inner_concat(node: Node, value: Value) -> Node | None:
    inner = value.producer
    if inner is not None and inner.op == "concat" and inner.attributes["axis"] == node.attributes["axis"]:
        return inner if single_use(value) else None
    return None


class ConcatOfConcat(RewriteRule):
    """concat(concat(a, b), c) along one axis → concat(a, b, c)."""

    name = "concat-of-concat"
    pattern = op("concat", where=lambda node: any(_inner_concat(node, value) for value in node.present_inputs))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Splices the operands in."""
        operands: list[Value] = []
        for value in match.root.present_inputs:
            inner = _inner_concat(match.root, value)
            operands += [value] if inner is None else inner.present_inputs
        rewriter.replace(rewriter.add("concat", *operands, axis=match.root.attributes["axis"]))


BOX_RULES: tuple[RewriteRule, ...] = (
    WholeSlice(),
    SliceOfSlice(),
    ZeroPad(),
    ExpandToSameShape(),
    ExpandOfExpand(),
    ConcatOfOne(),
    ConcatOfConcat(),
)
