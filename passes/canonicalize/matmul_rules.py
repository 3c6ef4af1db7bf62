"""Transposes of a product's operands become flags of the product.

matmul(transpose(a), b) → matmul(a, b) {transpose_a}, where the transpose swaps the last two axes only.
"""

from __future__ import annotations

from typing import Any

from edgeir.ir import Node, Value
from edgeir.rewrite import Match, Rewriter, RewriteRule, op


def _swapped(value: Value) -> Value | None:
    """What a transpose of the last two axes reads, if the value comes from one."""
    producer = value.producer
    if producer is None or producer.op != "transpose" or value.type.rank < 2:
        return None
    rank = value.type.rank
    wanted = (*range(rank - 2), rank - 1, rank - 2)
    return producer.input(0) if producer.attributes["perm"] == wanted else None


def _has_transpose(node: Node) -> bool:
    return any(_swapped(value) is not None for value in node.present_inputs)


class TransposeIntoMatmul(RewriteRule):
    """matmul(transpose(a), transpose(b)) → matmul(a, b) with flags."""

    name = "transpose-into-matmul"
    pattern = op("matmul", where=_has_transpose)

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Toggles the flags."""
        attributes: dict[str, Any] = dict(match.root.attributes)
        operands = list(match.root.present_inputs)
        for position, flag in enumerate(("transpose_a", "transpose_b")):
            source = _swapped(operands[position])
            if source is not None:
                operands[position] = source
                attributes[flag] = not attributes[flag]
        rewriter.replace(rewriter.add("matmul", *operands, **attributes))


MATMUL_RULES: tuple[RewriteRule, ...] = (TransposeIntoMatmul(),)
