"""What the constants of an integer convolution or product allow its kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeir.ir.graph import Node, Value
from edgeir.ops.integer import ZERO_POINTS
from edgeir.schedules.task import Integers, ZeroInput

PAIR_LIMIT = 128
"""255·(|w0| + |w1|) ≤ 32767 up to this sum: two products of x86's `pmaddubsw` then fit 16 bits."""

HEADROOMS = (6, 2)
"""Bits that the integer forms of Winograd's F(4x4, 3x3) and F(2x2, 3x3) need above the sums."""


@dataclass(frozen=True)
class IntegerConstants:
    """Facts of an integer anchor whose right operand is constant and has no zero point.

    Attributes:
        facts: what templates may count on.
        offset: what is added to raw sums: −left_zero·Σw as (O) for a convolution, as (…, 1, N) for a product; None
            where the left zero point is 0. Of a product whose left zero point is only known at run time: −Σw.
        dynamic: whether `offset` is to be multiplied by the left zero point.
    """

    facts: Integers
    offset: np.ndarray | None
    dynamic: bool = False


def integer_constants(anchor: Node | None, constant: Callable[[Value], np.ndarray | None]) -> IntegerConstants | None:
    """The facts of an anchor; None where it is no integer anchor, or something that is needed is not constant.

    Args:
        anchor: the anchor.
        constant: the array of a value that is constant, else None.
    """
    if anchor is None or anchor.op not in ZERO_POINTS:
        return None
    right = constant(anchor.input(1))
    if right is None:
        return None
    zeros = []
    for position in ZERO_POINTS[anchor.op]:
        value = anchor.inputs[position] if position < len(anchor.inputs) else None
        zeros.append(np.zeros((), np.int32) if value is None else constant(value))
    left_zero, right_zero = zeros
    dynamic = left_zero is None and anchor.op == "matmul_integer"
    if dynamic:
        left_zero = np.ones((), np.int32)
    if left_zero is None or right_zero is None or right_zero.astype(np.int32).any():
        return None
    name = right.dtype.name
    wide = right.astype(np.uint8 if name in ("uint4", "uint8") else np.int8).astype(np.int32)
    if anchor.op == "matmul_integer" and not anchor.attributes["transpose_b"]:
        wide = wide.swapaxes(-1, -2)
    # Now (O, channels, …) or (…, N, K).
    along = 1 if anchor.op == "conv_integer" else wide.ndim - 1
    zero = int(left_zero.astype(np.int32).reshape(()))
    facts = Integers(
        0 if dynamic else zero,
        _pairs_fit(wide, along),
        bool(wide.min(initial=0) > -128),
        _headroom(wide, anchor.input(0).type.dtype) if anchor.op == "conv_integer" and _is_plain(anchor) else 0,
    )
    if zero == 0:
        return IntegerConstants(facts, None)
    axes = tuple(range(1, wide.ndim)) if anchor.op == "conv_integer" else (wide.ndim - 1,)
    sums = (-zero * wide.sum(axis=axes, dtype=np.int64)).astype(np.int32)
    return IntegerConstants(facts, sums if anchor.op == "conv_integer" else np.expand_dims(sums, -2), dynamic)


def product_zeros(anchor: Node | None, operands: Sequence[Value]) -> tuple[int | ZeroInput, int | ZeroInput] | None:
    """The zero points of an integer product, 0 where there is none; None of any other anchor.

    Args:
        anchor: the anchor.
        operands: values that are known when the kernel runs.
    """
    if anchor is None or anchor.op != "matmul_integer":
        return None
    found: list[int | ZeroInput] = []
    place = 2
    for position in ZERO_POINTS[anchor.op]:
        value = anchor.inputs[position] if position < len(anchor.inputs) else None
        if value is None:
            found.append(0)
            continue
        known = value.is_constant and value not in operands and value.data.size == 1
        found.append(int(value.data.astype(np.int32).reshape(())) if known else ZeroInput(place))
        place += 1
    return found[0], found[1]


def _pairs_fit(weight: np.ndarray, axis: int) -> bool:
    """Whether |w[2j]| + |w[2j + 1]| ≤ 128 for all neighbours along an axis."""
    magnitude = np.moveaxis(np.abs(weight), axis, -1)
    if magnitude.shape[-1] % 2:
        magnitude = np.concatenate([magnitude, np.zeros_like(magnitude[..., :1])], axis=-1)
    return bool((magnitude[..., ::2] + magnitude[..., 1::2]).max(initial=0) <= PAIR_LIMIT)


def _is_plain(anchor: Node) -> bool:
    """Whether the right operand is stored as the bytes that are multiplied."""
    right = anchor.input(1)
    return right.producer is None and right.type.dtype == "int8"


def _headroom(weight: np.ndarray, dtype: str) -> int:
    """How many of `HEADROOMS` bits the raw sums of a convolution's weight leave free, whatever the input of `dtype`."""
    rows = weight.reshape(len(weight), -1)
    above, below = rows.clip(min=0).sum(axis=1, dtype=np.int64), -rows.clip(max=0).sum(axis=1, dtype=np.int64)
    # Sums of unsigned bytes lie between those of all weights below zero and of all above.
    sums = 255 * np.maximum(above, below) if dtype.startswith("u") else 128 * (above + below)
    largest = int(sums.max(initial=0))
    return next((bits for bits in HEADROOMS if largest << bits < 2**31), 0)
