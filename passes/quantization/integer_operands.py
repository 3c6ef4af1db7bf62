"""What rules about `conv_integer` and `matmul_integer` share."""

from __future__ import annotations

from collections.abc import Sequence

from edgeir.ir import Node, Value
from edgeir.ops.integer import ZERO_POINTS

LEFT, RIGHT = 0, 1

MOST_TERMS = 1 << 15
"""Longer sums of products of 8-bit integers could overflow 32 bits."""


def zero_point(product: Node, side: int) -> Value | None:
    """The zero point of an operand, `LEFT` or `RIGHT`."""
    position = ZERO_POINTS[product.op][side]
    return product.inputs[position] if position < len(product.inputs) else None


def without_absent(operands: Sequence[Value | None]) -> list[Value | None]:
    """Operands without those at the end that are absent."""
    found = list(operands)
    while found and found[-1] is None:
        found.pop()
    return found


def without_zero_points(product: Node) -> list[Value | None]:
    """The operands of a product before its zero points."""
    return without_absent(product.inputs[: ZERO_POINTS[product.op][LEFT]])


def summed_axes(product: Node) -> tuple[int, ...]:
    """The axes of the right operand that a sum runs over."""
    rank = product.input(1).type.rank
    if product.op == "conv_integer":
        return tuple(range(1, rank))
    return (rank - 1 if product.attributes["transpose_b"] else rank - 2,)
