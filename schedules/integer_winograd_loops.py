"""Loops of Winograd's integer convolution: chunks of tile rows, the products of a tile of channels at a time."""

from __future__ import annotations

from typing import Any

from edgeir.schedules.conv_dense import cut_tail
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    PAD,
    TirSchedule,
    block_name,
    inline_epilogue,
    producers_of_accumulation,
    schedule_elementwise,
)
from edgeir.schedules.dot_loops import mark
from edgeir.schedules.integer_winograd_stages import INPUT_ROWS, INPUT_TILES, OUTPUT_ROWS


def schedule_winograd(
    schedule: TirSchedule, m: int, in_block: int, blocks: int, tile: int, chunk: int, by_chunks: bool
) -> None:
    """In each chunk the input transform; then, channel tile by channel tile, products and output transform.

    Args:
        schedule: of the stages of `integer_winograd_stages`.
        m: rows and columns of an output tile.
        in_block: channels of a block of the input.
        blocks: channel blocks of a register tile.
        tile: output tiles of a register tile.
        chunk: tile rows of a chunk.
        by_chunks: whether chunks run in parallel, or else the stages of a chunk.
    """
    out = inline_epilogue(schedule, keep=(PAD, INPUT_ROWS, INPUT_TILES, ACCUMULATE, OUTPUT_ROWS))
    named = {name: schedule.get_sblock(name) for name in (PAD, INPUT_ROWS, INPUT_TILES, ACCUMULATE, OUTPUT_ROWS)}
    for block in producers_of_accumulation(schedule):
        if block_name(schedule, block) not in (PAD, INPUT_ROWS, INPUT_TILES):
            schedule_elementwise(schedule, schedule.get_loops(block), parallel=True)
    _schedule_border(schedule, named[PAD], in_block)

    n, o, h, w, v = schedule.get_loops(out)
    o, b = schedule.split(o, [None, blocks])
    piece, row, a = schedule.split(h, [None, chunk, m])
    column, c = schedule.split(w, [None, m])
    schedule.reorder(n, piece, o, row, column, b, a, c, v)
    place = schedule.fuse(n, piece)
    for loop in (a, c):
        schedule.unroll(loop)
    schedule.vectorize(v)
    schedule.compute_at(named[OUTPUT_ROWS], b, preserve_unit_loops=True)
    schedule.compute_at(named[ACCUMULATE], o, preserve_unit_loops=True)
    schedule.compute_at(named[INPUT_TILES], place, preserve_unit_loops=True)
    schedule.parallel(place if by_chunks else o)
    _unroll(schedule, named[OUTPUT_ROWS])

    *_, e, k, p, i = schedule.get_loops(named[INPUT_TILES])
    schedule.reorder(k, p, e, i)
    schedule.unroll(e)
    schedule.vectorize(i)
    schedule.compute_at(named[INPUT_ROWS], p, preserve_unit_loops=True)
    if not by_chunks:
        schedule.parallel(schedule.fuse(k, p))
    _unroll(schedule, named[INPUT_ROWS])
    _schedule_products(schedule, named[ACCUMULATE], tile)


def _schedule_border(schedule: TirSchedule, block: Any, in_block: int) -> None:
    """Copies blocks of channels as vectors, the inside of a row without tests."""
    n, k, h, w, i = schedule.get_loops(block)
    _, lanes = schedule.split(i, [None, in_block])
    schedule.vectorize(lanes)
    cut_tail(schedule, w)
    schedule.parallel(schedule.fuse(n, k, h))


def _schedule_products(schedule: TirSchedule, products: Any, tile: int) -> None:
    """Register tiles of tiles x channel blocks, their sums stored when they are complete."""
    store = schedule.cache_write(products, 0, "global")
    *_, e, o, b, p, v, k, j, q = schedule.get_loops(products)
    p, pixel = schedule.split(p, [None, tile])
    schedule.reorder(e, o, p, k, j, pixel, b, v, q)
    schedule.reverse_compute_at(store, p, preserve_unit_loops=True)
    cut_tail(schedule, p)
    init = schedule.decompose_reduction(products, k)
    for block in (products, init, store):
        loops = schedule.get_loops(block)
        lane = loops[-2] if block is products else loops[-1]
        place = len(loops) - (4 if block is products else 3)
        for loop in loops[place : place + 2]:
            schedule.unroll(loop)
        if block is store:
            schedule.vectorize(lane)
        else:
            mark(schedule, lane)


def _unroll(schedule: TirSchedule, block: Any) -> None:
    """Unrolls the last two loops before the vector loop of a transform, whose constants then fold."""
    first, second, vector = schedule.get_loops(block)[-3:]
    schedule.unroll(first)
    schedule.unroll(second)
    schedule.vectorize(vector)
