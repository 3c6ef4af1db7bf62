"""Casts that do nothing.

cast(x, its own type) → x;  cast(cast(x, wider), t) → cast(x, t) where the wider type holds every value of x's type.
"""

from __future__ import annotations

from edgeir.ir.dtype import SIGNED, UNSIGNED, bits
from edgeir.passes.canonicalize.identities import OperandRule
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, op

_MANTISSA = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}
_EXPONENT = {"float64": 11, "float32": 8, "float16": 5, "bfloat16": 8}


def holds_exactly(narrow: str, wide: str) -> bool:
    """Whether every value of the one element type is a value of the other."""
    if narrow == wide or narrow == "bool":
        return True
    if wide in _MANTISSA:
        if narrow in _MANTISSA:
            return _MANTISSA[narrow] <= _MANTISSA[wide] and _EXPONENT[narrow] <= _EXPONENT[wide]
        # Integers up to 2^(mantissa + 1) are exact; a sign bit is not part of the magnitude.
        if narrow in SIGNED | UNSIGNED:
            magnitude = bits(narrow) - (narrow in SIGNED)
            return magnitude <= _MANTISSA[wide] + 1 and wide != "float16"
        return False
    if narrow in UNSIGNED and wide in UNSIGNED | SIGNED:
        return bits(narrow) <= bits(wide) - (wide in SIGNED)
    return narrow in SIGNED and wide in SIGNED and bits(narrow) <= bits(wide)


class CastToSameType(OperandRule):
    """cast(x, type of x) → x."""

    name = "cast-to-same-type"
    pattern = op(("cast", "bit_cast", "layout_cast"), anything("x"))


class DoubleCast(RewriteRule):
    """cast(cast(x, wider), t) → cast(x, t)."""

    name = "double-cast"
    pattern = op("cast", op("cast", anything("x"), name="inner"))

    def check(self, match: Match) -> str | None:
        """The first cast must not change any value."""
        exact = holds_exactly(match["x"].type.dtype, match["inner"].type.dtype)
        return None if exact else "the inner cast may round or saturate"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Casts once."""
        rewriter.replace(rewriter.add("cast", match["x"], **match.root.attributes))


CAST_RULES: tuple[RewriteRule, ...] = (CastToSameType(), DoubleCast())
