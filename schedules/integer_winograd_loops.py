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
from edgeir.schedules.integer_narrowing import mark_narrowing
from edgeir.schedules.integer_winograd_stages import INPUT_ROWS, INPUT_TILES, OUTPUT_ROWS, PRODUCTS


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
    stages = (PAD, INPUT_ROWS, INPUT_TILES, PRODUCTS, OUTPUT_ROWS)
    out = inline_epilogue(schedule, keep=stages)
    named = {name: schedule.get_sblock(name) for name in stages}
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
    mark_narrowing(schedule, c)
    # One row of a tile at a time: its six vectors stay in registers.
    schedule.compute_at(named[OUTPUT_ROWS], a, preserve_unit_loops=True)
    schedule.compute_at(named[PRODUCTS], o, preserve_unit_loops=True)
    _schedule_products(schedule, named[PRODUCTS], tile)
    schedule.compute_at(named[INPUT_TILES], place, preserve_unit_loops=True)
    schedule.parallel(place if by_chunks else o)
    _unroll(schedule, named[OUTPUT_ROWS])

    *_, e, k, p, i = schedule.get_loops(named[INPUT_TILES])
    e, c = schedule.split(e, [None, m + 2])
    schedule.reorder(k, p, e, c, i)
    schedule.unroll(e)
    schedule.unroll(c)
    schedule.vectorize(i)
    schedule.compute_at(named[INPUT_ROWS], e, preserve_unit_loops=True)
    if not by_chunks:
        schedule.parallel(schedule.fuse(k, p))
    _unroll(schedule, named[INPUT_ROWS])

    acc = schedule.get_sblock(ACCUMULATE)
    k = schedule.get_loops(acc)[-6]
    pixel, b, v = schedule.get_loops(schedule.decompose_reduction(acc, k))[-3:]
    schedule.unroll(pixel)
    schedule.unroll(b)
    mark(schedule, v)


def _schedule_border(schedule: TirSchedule, block: Any, in_block: int) -> None:
    """Copies blocks of channels as vectors, the inside of a row without tests."""
    n, k, h, w, i = schedule.get_loops(block)
    _, lanes = schedule.split(i, [None, in_block])
    schedule.vectorize(lanes)
    cut_tail(schedule, w)
    schedule.parallel(schedule.fuse(n, k, h))


def _schedule_products(schedule: TirSchedule, products: Any, tile: int) -> None:
    """Register tiles of tiles x channel blocks, their sums stored when they are complete."""
    acc = schedule.get_sblock(ACCUMULATE)
    b, p, v = schedule.get_loops(products)[-3:]
    p, pixel = schedule.split(p, [None, tile])
    schedule.reorder(p, pixel, b, v)
    schedule.unroll(pixel)
    schedule.unroll(b)
    schedule.vectorize(v)
    schedule.compute_at(acc, p, preserve_unit_loops=True)
    cut_tail(schedule, p)
    b, pixel, v, k, j, q = schedule.get_loops(acc)[-6:]
    schedule.reorder(k, j, pixel, b, v, q)
    schedule.unroll(pixel)
    schedule.unroll(b)
    mark(schedule, v)


def _unroll(schedule: TirSchedule, block: Any) -> None:
    """Unrolls the last two loops before the vector loop of a transform, whose constants then fold."""
    first, second, vector = schedule.get_loops(block)[-3:]
    schedule.unroll(first)
    schedule.unroll(second)
    schedule.vectorize(vector)
