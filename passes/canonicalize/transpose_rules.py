"""Fewer transposes.

transpose(x, identity) → x;  transpose(transpose(x, p), q) → transpose(x, p[q]);
transpose that keeps the order of all axes longer than 1 → reshape.
"""

from __future__ import annotations

from edgeir.ir import Node
from edgeir.passes.canonicalize.identities import OperandRule
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, op


class IdentityTranspose(OperandRule):
    """transpose(x, identity) → x."""

    name = "identity-transpose"
    pattern = op("transpose", anything("x"), perm=lambda perm: perm == tuple(range(len(perm))))


class TransposeOfTranspose(RewriteRule):
    """transpose(transpose(x, p), q) → transpose(x, p[q])."""

    name = "transpose-of-transpose"
    pattern = op("transpose", op("transpose", anything("x"), name="inner"))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Composes the permutations."""
        inner = match.node("inner").attributes["perm"]
        rewriter.replace(
            rewriter.add("transpose", match["x"], perm=tuple(inner[axis] for axis in match.root.attributes["perm"]))
        )


def _moves_unit_axes_only(node: Node) -> bool:
    shape, perm = node.input(0).type.shape, node.attributes["perm"]
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


class TransposeToReshape(RewriteRule):
    """A transpose that moves only axes of size 1 leaves the elements where they are."""

    name = "transpose-to-reshape"
    pattern = op("transpose", anything("x"), where=_moves_unit_axes_only)

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the reshape."""
        rewriter.replace(rewriter.add("reshape", match["x"], shape=match.root.output.type.shape))


TRANSPOSE_RULES: tuple[RewriteRule, ...] = (IdentityTranspose(), TransposeOfTranspose(), TransposeToReshape())
