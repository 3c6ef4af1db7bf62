"""Transposing small squares in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.tir_types import Expression

SIDE = 8
"""Most elements of the side of a square that is transposed at once: 256-bit shuffles cost less than 512-bit ones."""

QUARTER = 4
"""Lanes of the parts of a vector inside which instructions shuffle freely."""


def transpose(lanes: int, load: Callable[[int, int], Expression], store: Callable[[int, Expression], None]) -> None:
    """Transposes a square of `lanes` x `lanes` elements in registers, four columns at a time.

    Quarters of rows are gathered so that one vector holds rows 0, 4, 8, …; what is left is transposing squares of
    4 x 4 elements side by side, which no instruction needs to carry across quarters. Loads do half of the shuffling.

    Args:
        lanes: 4 or 8.
        load: gives four elements of a row, from a column on.
        store: takes a column's number and its elements.
    """
    parts = lanes // QUARTER
    for first in range(0, lanes, QUARTER):
        rows = []
        for i in range(QUARTER):
            quarters = [load(part * QUARTER + i, first) for part in range(parts)]
            rows.append(T.bind(quarters[0] if parts == 1 else _shuffled(quarters, range(lanes))))
        low = [T.bind(_woven(rows[i], rows[i + 1], (0, 4, 1, 5), parts)) for i in (0, 2)]
        high = [T.bind(_woven(rows[i], rows[i + 1], (2, 6, 3, 7), parts)) for i in (0, 2)]
        for column, (pair, order) in enumerate(((low, _FRONT), (low, _BACK), (high, _FRONT), (high, _BACK))):
            store(first + column, T.bind(_woven(pair[0], pair[1], order, parts)))


_FRONT, _BACK = (0, 1, 4, 5), (2, 3, 6, 7)


def _woven(a: Expression, b: Expression, order: Sequence[int], parts: int) -> Expression:
    """In each quarter the elements `order` of the quarters of a (0 to 3) and b (4 to 7)."""
    lanes = parts * QUARTER
    picked = [part * QUARTER + i if i < 4 else lanes + part * QUARTER + i - 4 for part in range(parts) for i in order]
    return _shuffled([a, b], picked)


def _shuffled(vectors: Sequence[Expression], order: Sequence[int]) -> Expression:
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", i) for i in order])
