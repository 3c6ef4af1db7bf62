"""Looks rows up before they are decompressed, so that a compressed table stays compressed.

gather(cast(t), i) → cast(gather(t, i));  gather(t·c, i) → gather(t, i)·gather(c, i), for a constant table t.
"""

from __future__ import annotations

from edgeir.ir import Value
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, constant, op


def _is_table(value: Value) -> bool:
    """A constant, or a constant that only a cast stands before."""
    producer = value.producer
    return value.is_constant or (producer is not None and producer.op == "cast" and producer.input(0).is_constant)


def _why_not_smaller(match: Match) -> str | None:
    before, after = match["table"].type.elements, match.root.output.type.elements
    if isinstance(before, int) and isinstance(after, int) and after >= before:
        return "the table is smaller than what is looked up"
    return None


class GatherOfCast(RewriteRule):
    """gather(cast(t), i) → cast(gather(t, i))."""

    name = "gather-of-cast"
    pattern = op("gather", op("cast", constant("table"), single_use=True, name="cast"), anything("indices"))

    def check(self, match: Match) -> str | None:
        """Less must be looked up than the table holds."""
        return _why_not_smaller(match)

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Swaps the two."""
        rows = rewriter.add("gather", match["table"], match["indices"], **match.root.attributes)
        rewriter.replace(rewriter.add("cast", rows, **match.node("cast").attributes))


class GatherOfScaled(RewriteRule):
    """gather(t·c, i) → gather(t, i)·gather(c, i), where c is constant along all axes but the one looked up along."""

    name = "gather-of-scaled"
    pattern = op(
        "gather",
        op(("mul", "add", "sub"), anything("table", where=_is_table), constant("c"), single_use=True, name="scaled"),
        anything("indices"),
    )

    def check(self, match: Match) -> str | None:
        """The constant must have one entry per row, or one in all."""
        table, c = match["table"].type, match["c"].type
        scaled = match.node("scaled")
        if scaled.output.type != table or scaled.input(0) is not match["table"]:
            return "the constant broadcasts the table, or is the left operand"
        axis = match.root.attributes["axis"]
        if c.elements != 1 and (c.rank != table.rank or c.elements != c.shape[axis]):
            return "the constant varies along other axes"
        return _why_not_smaller(match)

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Looks both up."""
        axis = match.root.attributes["axis"]
        rows = rewriter.add("gather", match["table"], match["indices"], axis=axis)
        factor = match["c"]
        if factor.type.elements != 1:
            factor = rewriter.add("gather", factor, match["indices"], axis=axis)
        else:
            factor = rewriter.constant(match.array("c").reshape(()), factor.name)
        rewriter.replace(rewriter.add(match.node("scaled").op, rows, factor))


GATHER_RULES: tuple[RewriteRule, ...] = (GatherOfCast(), GatherOfScaled())
