"""Register tiles of depthwise convolutions that multiply groups of taps: what is read when, and used where.

Groups of taps are gathered at every `period`-th column only. An output whose window starts between two of them takes
weights that are moved to the right by the difference. With windows of 3 and groups of 4, for instance, columns 0 and 1
both lie in the group at 0, with weights (w0, w1, w2, 0) and (0, w0, w1, w2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.integer_depthwise_intrinsics import TapDot
from edgeir.schedules.register_tile import STACK_LIMIT
from edgeir.targets.target import Target

GATHER_COST = 2.0
"""Instructions to gather a group of taps."""

PRODUCT_COST = 1.5
"""Instructions to multiply a group and add the products, weighed by how few units can do it."""

PIXEL_COST = 6.0
"""Instructions of the epilogue of one vector of outputs, without those that pack it."""

PACK_COST = {4: 6.0, 2: 4.0, 1: 4.0}
"""Instructions that pack neighbouring vectors of outputs into one of bytes."""

TILE_COST = 10.0
"""Instructions around a tile."""

MOST_PRODUCTS = 512
"""Products of groups in a tile: more are too much code."""


@dataclass(frozen=True)
class Use:
    """A product: the output of the tile, kernel row, group of taps of that row, and how far weights are moved."""

    row: int
    column: int
    kernel_row: int
    group: int
    shift: int


@dataclass(frozen=True)
class Gather:
    """A group of taps at (row, column) of the input, from the tile's first on, and its products."""

    row: int
    column: int
    uses: tuple[Use, ...]


def tap_groups(problem: ConvProblem, taps: int) -> int:
    """Groups of taps of one kernel row, the last one filled up with zeros."""
    return -(-problem.kernel[1] // taps)


def period(problem: ConvProblem, taps: int) -> int:
    """The longest distance between gathered columns for which no window needs a further group."""
    stride, width = problem.strides[1], problem.kernel[1]
    spare = taps * tap_groups(problem, taps) - width
    return max(p for p in range(1, taps + 1) if taps % p == 0 and max(c * stride % p for c in range(p)) <= spare)


def gathers(problem: ConvProblem, taps: int, rows: int, columns: int) -> list[Gather]:
    """What a tile gathers, columns outermost, so that few sums are begun before others are complete."""
    step = period(problem, taps)
    found: dict[tuple[int, int], list[Use]] = {}
    for column in range(columns):
        start = column * problem.strides[1]
        shift = start % step
        for group in range(tap_groups(problem, taps)):
            place = start - shift + group * taps
            for row in range(rows):
                for r in range(problem.kernel[0]):
                    at = (place, row * problem.strides[0] + r * problem.dilations[0])
                    found.setdefault(at, []).append(Use(row, column, r, group, shift))
    return [Gather(row, column, tuple(found[column, row])) for column, row in sorted(found)]


def most_sums(plan: list[Gather]) -> int:
    """The most sums that are begun and not complete at a time."""
    first: dict[tuple[int, int], int] = {}
    last: dict[tuple[int, int], int] = {}
    for time, gather in enumerate(plan):
        for use in gather.uses:
            first.setdefault((use.row, use.column), time)
            last[use.row, use.column] = time
    return max(sum(first[at] <= time <= last[at] for at in first) for time in range(len(plan)))


def best_band(bands: Sequence[int], rows: int) -> int:
    """The longest of the bands for whose tiles of `rows` rows the fewest rows are computed twice.

    The last tile of a band overlaps the one before it.
    """
    return min((band for band in bands if band >= rows), key=lambda band: (-(-band // rows) * rows / band, -band))


def choose_tile(problem: ConvProblem, dot: TapDot, bands: Sequence[int], target: Target) -> tuple[int, int]:
    """Rows and columns of the tile with the fewest instructions among those whose sums stay in registers.

    Args:
        problem: the convolution.
        dot: how groups of taps are multiplied.
        bands: numbers of output rows that may be computed at a time, divisors of all, ascending.
        target: the machine.
    """
    best, least = (1, 1), math.inf
    for rows, columns in _tiles(problem, dot):
        plan = gathers(problem, dot.taps, rows, columns)
        if rows * columns > 1 and most_sums(plan) + 3 > target.vector_registers:
            continue
        if rows > bands[-1]:
            break
        band = best_band(bands, rows)
        tiles = problem.out_spatial[0] // band * -(-band // rows) * -(-problem.out_spatial[1] // columns)
        products = sum(len(gather.uses) for gather in plan)
        cost = len(plan) * GATHER_COST + products * PRODUCT_COST + rows * _row_cost(columns) + TILE_COST
        if tiles * cost < least:
            best, least = (rows, columns), tiles * cost
    return best


def _row_cost(columns: int) -> float:
    """Instructions of the epilogue of one row of a tile."""
    packs = columns // 4 * PACK_COST[4] + columns % 4 // 2 * PACK_COST[2] + columns % 2 * PACK_COST[1]
    return columns * PIXEL_COST + packs


def _tiles(problem: ConvProblem, dot: TapDot) -> Iterator[tuple[int, int]]:
    height, width = problem.out_spatial
    for rows in range(1, min(height, 8) + 1):
        for columns in range(1, min(width, 16) + 1):
            products = rows * columns * problem.kernel[0] * tap_groups(problem, dot.taps)
            if rows * columns > 1 and (4 * dot.block * rows * columns >= STACK_LIMIT or products > MOST_PRODUCTS):
                break
            yield rows, columns
