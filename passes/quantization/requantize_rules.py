"""Integers that are dequantized and quantized again.

quantize(dequantize(q, s, z), s, z) → q;
quantize(reshape(x), s, z) → reshape(quantize(x, s, z)), so that integers are moved;
quantize(concat(x, y), s, z) → concat(quantize(x, s, z), quantize(y, s, z)).
"""

from __future__ import annotations

from edgeir.passes.quantization.affine import BYTES, Affine, affine_of, is_single, same_parameters
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, op

_EXACT = BYTES | {"int16", "uint16", "int4", "uint4"}


class QuantizeOfDequantize(RewriteRule):
    """quantize(dequantize(q, s, z), s, z) → q; (q − z)·s / s is within rounding of an integer of at most 17 bits."""

    name = "quantize-of-dequantize"
    pattern = op("quantize", op("dequantize", name="inner"), anything("scale"), anything("zero"))

    def check(self, match: Match) -> str | None:
        """Parameters must be the same."""
        inner = affine_of(match.node("inner"))
        if inner.q.type != match.root.output.type or inner.q.type.dtype not in _EXACT:
            return "the integers have another type"
        outer = Affine(match.root.output, match["scale"], match["zero"])
        return None if same_parameters(inner, outer) else "the parameters differ"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Takes the integers."""
        rewriter.replace(match.node("inner").input(0))


def _is_per_tensor(match: Match) -> bool:
    return is_single(match["scale"]) and is_single(match["zero"])


class QuantizeOfMovement(RewriteRule):
    """quantize(move(x)) → move(quantize(x)) for reshape, transpose and slice, one scale for all elements."""

    name = "quantize-of-movement"
    pattern = op(
        "quantize",
        op(("reshape", "transpose", "slice"), anything("x"), single_use=True, name="move"),
        anything("scale"),
        anything("zero"),
    )

    def check(self, match: Match) -> str | None:
        """A slice must not leave out most of what would be quantized."""
        if not _is_per_tensor(match):
            return "scale or zero point varies"
        if not _stands_before(match):
            return "the parameters are computed later"
        before, after = match["x"].type.elements, match.root.output.type.elements
        if before != after and not (isinstance(before, int) and isinstance(after, int) and 2 * after >= before):
            return "the slice leaves out most elements"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Swaps the two."""
        move = match.node("move")
        q = rewriter.add("quantize", match["x"], match["scale"], match["zero"])
        rewriter.replace(rewriter.add(move.op, q, **move.attributes))


def _stands_before(match: Match) -> bool:
    """Whether scale and zero point are constants: moving a quantization up is then always possible."""
    return match["scale"].is_constant and match["zero"].is_constant


class QuantizeOfConcat(RewriteRule):
    """quantize(concat(x, y, …), s, z) → concat(quantize(x, s, z), quantize(y, s, z), …)."""

    name = "quantize-of-concat"
    pattern = op("quantize", op("concat", single_use=True, name="concat"), anything("scale"), anything("zero"))

    def check(self, match: Match) -> str | None:
        """One scale for all elements."""
        return None if _is_per_tensor(match) and _stands_before(match) else "scale or zero point varies"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Quantizes each part; where it was quantized with these parameters, nothing is left to do."""
        concat = match.node("concat")
        parts = [rewriter.add("quantize", part, match["scale"], match["zero"]) for part in concat.present_inputs]
        rewriter.replace(rewriter.add("concat", *parts, **concat.attributes))


REQUANTIZE_RULES: tuple[RewriteRule, ...] = (QuantizeOfDequantize(), QuantizeOfMovement(), QuantizeOfConcat())
