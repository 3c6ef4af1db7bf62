"""Tiles of a movement: pieces of the output that are put together in registers from whole vectors of the inputs.

A tile fits where its loads have the same distances from each other wherever it lies, and no condition on the position
changes inside it. Both are checked at every position of the output.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeir.schedules.movement_formula import Leaf, Movement, address, evaluate
from edgeir.schedules.register_shuffles import Network, network

_SIDES = (1, 2, 4, 8, 16)
_RUNS = (1, 2, 4, 8)
_MAX_VECTORS = 16
_LEAST_LANES = 4
_CANDIDATES = 24
_KEPT = 6
# Cycles of computing the addresses of a tile and its conditions.
_TILE_CYCLES = 6.0


@dataclass(frozen=True)
class Gather:
    """How the elements of one load come into a tile's vectors.

    Attributes:
        starts: distances from the tile's first load at which vectors are read; elements where `scalars`.
        scalars: for each vector of the tile the element that fills it; empty where there are vectors.
        shuffles: from the vectors read to those of the tile; None where there are scalars.
    """

    starts: tuple[int, ...]
    scalars: tuple[int, ...]
    shuffles: Network | None


@dataclass(frozen=True)
class Tile:
    """A piece of the output.

    Attributes:
        sides: its extent along each axis.
        lanes: elements of a vector; divides the last side.
        stores: distances from the tile's first element at which vectors are written.
        gathers: for each leaf, one for each of its loads; None for a leaf that no tile reaches.
        cycles: a rough estimate per element of the output.
    """

    sides: tuple[int, ...]
    lanes: int
    stores: tuple[int, ...]
    gathers: tuple[tuple[Gather, ...] | None, ...]
    cycles: float

    @property
    def name(self) -> str:
        """Vector length and sides, as text."""
        return f"{self.lanes}:" + "x".join(map(str, self.sides))


def tiles(movement: Movement, lanes: int, bits: int) -> tuple[Tile, ...]:
    """Tiles that fit, the best first; none where the inputs are not read in whole vectors.

    Args:
        movement: the computation.
        lanes: of the longest vectors.
        bits: width of an element.
    """
    found = []
    widths = [lanes >> shift for shift in range(4) if lanes >> shift >= _LEAST_LANES]
    for width in widths if movement.extents else ():
        for sides in _sides(movement.extents, width):
            tile = _tile(movement, sides, width, bits, everywhere=False)
            if tile is not None:
                found.append(tile)
    found.sort(key=lambda tile: tile.cycles)
    kept: list[Tile] = []
    for tile in found[:_CANDIDATES]:
        checked = _tile(movement, tile.sides, tile.lanes, bits, everywhere=True)
        if checked is not None:
            kept.append(checked)
        if len(kept) == _KEPT:
            break
    return tuple(sorted(kept, key=lambda tile: tile.cycles))


def _sides(extents: Sequence[int], width: int) -> Iterator[tuple[int, ...]]:
    outer = [[side for side in _SIDES if side <= extent] for extent in extents[:-1]]
    for sides in itertools.product(*outer):
        if sum(side > 1 for side in sides) > 2:
            continue
        for run in _RUNS:
            last = run * width
            if last <= extents[-1] and math.prod(sides) * run <= _MAX_VECTORS:
                yield (*sides, last)


def origins(extent: int, side: int) -> np.ndarray:
    """Where tiles begin along an axis; the last one overlaps the one before it where they do not divide it."""
    return np.minimum(np.arange(-(-extent // side)) * side, extent - side)


def _tile(movement: Movement, sides: tuple[int, ...], width: int, bits: int, everywhere: bool) -> Tile | None:
    rank = len(sides)
    starts = [origins(n, side) for n, side in zip(movement.extents, sides, strict=True)]
    outer = np.ix_(*starts)
    grid = dict(zip(movement.axes, outer, strict=True))
    shape = tuple(len(s) for s in starts)
    inner = np.ix_(*[np.arange(side) for side in sides])
    strides = [math.prod(movement.extents[i + 1 :]) for i in range(rank)]
    written = np.asarray(sum(part * stride for part, stride in zip(inner, strides, strict=True))).reshape(-1, width)[
        :, 0
    ]
    gathers: list[tuple[Gather, ...] | None] = []
    cycles = _TILE_CYCLES
    for leaf in movement.leaves:
        reached = np.ones(shape, bool)
        for test, truth in leaf.path:
            reached &= np.broadcast_to(evaluate(test, grid).astype(bool), shape) == truth
        if not reached.any():
            gathers.append(None)
            continue
        loads = _gathers(movement, leaf, starts, inner, reached, width, everywhere)
        if loads is None:
            return None
        gathers.append(loads)
        price = 1.0 if width * bits <= 256 else 2.0
        work = sum(len(g.starts) + price * len(g.shuffles.shuffles if g.shuffles else ()) for g in loads)
        cycles += (0.5 * work + len(written)) * float(reached.mean())
    tile_count = math.prod(shape)
    return Tile(
        sides, width, tuple(int(w) for w in written), tuple(gathers),
        cycles * tile_count / math.prod(movement.extents),
    )  # fmt: skip


def _gathers(
    movement: Movement,
    leaf: Leaf,
    starts: Sequence[np.ndarray],
    inner: Sequence[np.ndarray],
    reached: np.ndarray,
    width: int,
    everywhere: bool,
) -> tuple[Gather, ...] | None:
    rank = len(starts)
    if everywhere:
        chosen = list(starts)
    else:
        first = np.unravel_index(int(np.argmax(reached)), reached.shape)
        chosen = [s[i : i + 1] for s, i in zip(starts, first, strict=True)]
        reached = np.ones((1,) * rank, bool)
    positions = {
        axis: origin.reshape([-1 if i == k else 1 for i in range(rank)] + [1] * rank)
        + part.reshape([1] * rank + [-1 if i == k else 1 for i in range(rank)])
        for k, (axis, origin, part) in enumerate(zip(movement.axes, chosen, inner, strict=True))
    }
    masked = reached.reshape(reached.shape + (1,) * rank)
    for test, truth in leaf.path:
        if ((_full(evaluate(test, positions), 2 * rank).astype(bool) != truth) & masked).any():
            return None
    found = []
    side = [part.size for part in inner]
    for load in leaf.loads:
        values = _full(evaluate(address(load), positions), 2 * rank)
        base = values[(slice(None),) * rank + (slice(0, 1),) * rank]
        apart = values - base
        outer_first = np.unravel_index(int(np.argmax(reached)), reached.shape)
        at = tuple(i if n > 1 else 0 for i, n in zip(outer_first, apart.shape[:rank], strict=True))
        expected = apart[at]
        if ((apart != expected) & masked).any():
            return None
        gather = _gather(np.broadcast_to(expected, side).reshape(-1, width), width)
        if gather is None:
            return None
        found.append(gather)
    return tuple(found)


def _full(values: Any, rank: int) -> np.ndarray:
    array = np.asarray(values)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _gather(apart: np.ndarray, width: int) -> Gather | None:
    """From the distances of a tile's elements, a row for each vector, to vectors and shuffles."""
    if (apart == apart[:, :1]).all():
        return Gather((), tuple(int(d) for d in apart[:, 0]), None)
    distinct = np.unique(apart)
    if len(distinct) % width:
        return None
    runs = distinct.reshape(-1, width)
    if (runs - runs[:, :1] != np.arange(width)).any():
        return None
    shuffles = network(np.searchsorted(distinct, apart), width)
    return None if shuffles is None else Gather(tuple(int(d) for d in runs[:, 0]), (), shuffles)
