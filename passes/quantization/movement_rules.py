"""Dequantization after what only moves or compares elements.

move(dequantize(q, s, z)) → dequantize(move(q), s, z), so that bytes are moved instead of floats;
conv_integer(pad(q, z), w, b, z) → conv_integer(q, w, b, z).
"""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.passes.folding.fold_pad import spatial
from edgeir.passes.quantization.affine import BYTES, affine_of, dequantized, same_parameters, zero_number
from edgeir.rewrite import Match, Rewriter, RewriteRule, op

_ORDERED = ("max_pool", "reduce_max", "reduce_min")
"""Operators that compare, and so need a positive scale."""

_MOVES = ("reshape", "transpose", "slice", "expand", "tile", "gather", "gather_elements", "gather_nd", "resize", "pad")


def _is_zero(value: Value | None) -> bool:
    return value is None or (value.is_constant and not value.data.any())


class SinkDequantize(RewriteRule):
    """move(dequantize(q, s, z), …) → dequantize(move(q, …), s, z), one scale for all elements."""

    name = "sink-dequantize"
    pattern = op((*_MOVES, *_ORDERED), op("dequantize", name="inner"))

    def check(self, match: Match) -> str | None:
        """The operator must do the same to integers, and padding must be the number 0."""
        node, inner = match.root, affine_of(match.node("inner"))
        if inner.q.type.dtype not in BYTES:
            return "the integers are wide"
        if not inner.is_scalar:
            return "scale or zero point varies"
        if node.op in _ORDERED and not inner.is_positive:
            return "the order of the integers is not that of the numbers"
        if node.op == "resize" and node.attributes["mode"] != "nearest":
            return "the operator computes new numbers"
        if node.op == "resize" and node.attributes["coordinate_transformation"] == "tf_crop_and_resize":
            return "elements beyond the input are filled"
        if node.op == "pad" and node.attributes["mode"] == "constant":
            if not _is_zero(node.inputs[1] if len(node.inputs) > 1 else None):
                return "the padding is not 0"
            if zero_number(inner.zero) is None:
                return "the zero point is not constant"
        if match["inner"].type.shape != inner.q.type.shape:
            return "the parameters broadcast the integers"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Swaps the two."""
        node, inner = match.root, affine_of(match.node("inner"))
        others: list[Value | None] = list(node.inputs[1:])
        if node.op == "pad" and node.attributes["mode"] == "constant":
            fill = np.array(zero_number(inner.zero), numpy_dtype(inner.q.type.dtype))
            others = [rewriter.constant(fill, "zero_point")] if fill.any() else []
        q = rewriter.add(node.op, inner.q, *others, **node.attributes)
        rewriter.replace(rewriter.add("dequantize", q, *inner.parameters))


def _all_dequantized(node: Node) -> bool:
    return all(dequantized(value) is not None for value in node.present_inputs)


class SinkDequantizeThroughConcat(RewriteRule):
    """concat(dequantize(p, s, z), dequantize(q, s, z), …) → dequantize(concat(p, q, …), s, z)."""

    name = "sink-dequantize-through-concat"
    pattern = op("concat", where=_all_dequantized)

    def check(self, match: Match) -> str | None:
        """All parts must have the same parameters, one for all elements."""
        found = [part for value in match.root.present_inputs if (part := dequantized(value)) is not None]
        if any(part.q.type.dtype not in BYTES or not part.is_scalar for part in found):
            return "scale or zero point varies, or the integers are wide"
        return None if all(same_parameters(found[0], part) for part in found) else "the parameters differ"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Concatenates the integers."""
        found = [part for value in match.root.present_inputs if (part := dequantized(value)) is not None]
        q = rewriter.add("concat", *(part.q for part in found), **match.root.attributes)
        rewriter.replace(rewriter.add("dequantize", q, *found[0].parameters))


class PadIntoSum(RewriteRule):
    """conv_integer(pad(q, z), w, b, z) → conv_integer(q, w, b, z), whose own padding counts as z."""

    name = "pad-into-sum"
    pattern = op("conv_integer", op("pad", mode="constant", name="pad"))

    def check(self, match: Match) -> str | None:
        """Spatial axes only, filled with the zero point."""
        pad, node = match.node("pad"), match.root
        padding, rank = pad.attributes["padding"], pad.output.type.rank
        if any(padding[axis] for axis in (0, 1, rank, rank + 1)):
            return "other than spatial axes are padded"
        fill = zero_number(pad.inputs[1] if len(pad.inputs) > 1 else None)
        zero = zero_number(node.inputs[3] if len(node.inputs) > 3 else None)
        return None if fill is not None and fill == zero else "the padding is not the zero point"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the padding up."""
        pad, node = match.node("pad"), match.root
        outer = spatial(pad.attributes["padding"])
        padding = tuple(a + b for a, b in zip(outer, node.attributes["padding"], strict=True))
        attributes = {**node.attributes, "padding": padding}
        rewriter.replace(rewriter.add("conv_integer", pad.input(0), *node.inputs[1:], **attributes))


MOVEMENT_RULES: tuple[RewriteRule, ...] = (SinkDequantize(), SinkDequantizeThroughConcat(), PadIntoSum())
