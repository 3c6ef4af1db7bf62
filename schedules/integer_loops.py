"""Loops of integer convolutions: tiles of pixels and channel blocks, the sums of a tile in registers."""

from __future__ import annotations

from edgeir.schedules.conv_dense import cut_tail
from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import ACCUMULATE, TirSchedule, inline_epilogue
from edgeir.schedules.dot_intrinsics import DotProduct
from edgeir.schedules.dot_loops import mark
from edgeir.schedules.integer_narrowing import mark_narrowing


def schedule_rows(
    schedule: TirSchedule, problem: ConvProblem, dot: DotProduct, blocks: int, tile: tuple[int, int], outer: str
) -> None:
    """Computes the sums of one register tile at a time, and the epilogue on it."""
    out = inline_epilogue(schedule)
    acc = schedule.get_sblock(ACCUMULATE)
    n, o, h, w, *vector = schedule.get_loops(out)
    if vector:
        o, b = schedule.split(o, [None, blocks])
        inner = vector[0]
    else:
        o, b, inner = schedule.split(o, [None, blocks, dot.lanes])
    h, row = schedule.split(h, [None, tile[0]])
    w, column = schedule.split(w, [None, tile[1]])
    whole_rows = problem.out_spatial[0] % tile[0] == 0
    pieces = (n, o, h) if outer == "channels" else (n, h, o)
    order = pieces if whole_rows else (n, o)
    schedule.reorder(*order, *(() if whole_rows else (h,)), w, row, column, b, inner)
    if vector:
        schedule.vectorize(inner)
    for loop in (row, column, b):
        schedule.unroll(loop)
    mark_narrowing(schedule, column)
    schedule.compute_at(acc, w, preserve_unit_loops=True)
    for loop in (w,) if whole_rows else (h, w):
        cut_tail(schedule, loop)
    schedule.parallel(schedule.fuse(*order))
    accumulate_in_registers(schedule, dot)


def schedule_pixels(
    schedule: TirSchedule, problem: ConvProblem, dot: DotProduct, blocks: int, tile: int, chunk: int, outer: str
) -> None:
    """Walks chunks of pixels and tiles of channels in parallel, the register tiles of a chunk innermost."""
    out = inline_epilogue(schedule)
    acc = schedule.get_sblock(ACCUMULATE)
    width = problem.out_spatial[1]
    # One block iterator over pixels (not two) lets `compute_at` see that a tile of pixels is contiguous.
    schedule.transform_block_layout(out, lambda n, o, h, w, v: (n, o, h * width + w, v))
    n, o, p, v = schedule.get_loops(out)
    o, b = schedule.split(o, [None, blocks])
    p, rest = schedule.split(p, [None, chunk])
    t, pixel = schedule.split(rest, [None, tile])
    order = (n, o, p) if outer == "channels" else (n, p, o)
    schedule.reorder(*order, t, pixel, b, v)
    schedule.vectorize(v)
    schedule.unroll(pixel)
    schedule.unroll(b)
    mark_narrowing(schedule, pixel)
    schedule.compute_at(acc, t, preserve_unit_loops=True)
    cut_tail(schedule, t)
    schedule.parallel(schedule.fuse(*order))
    accumulate_in_registers(schedule, dot)


def accumulate_in_registers(schedule: TirSchedule, dot: DotProduct) -> None:
    """Orders the loops of the sums as reduction, pixels, channel blocks, and marks what inner products compute.

    As in `conv_dense.accumulate_in_registers`, pixels and blocks are unrolled, blocks vary fastest, and the sums stay
    in `global` scope. Quads are left to LLVM to unroll, whose reassociation of sums comes before.
    """
    acc = schedule.get_sblock(ACCUMULATE)
    loops = schedule.get_loops(acc)
    inner = 2 if dot.halves else 1
    *outer, j = loops[-inner - 4 : -inner]
    b, h, w, v = loops[-inner - 8 : -inner - 4]
    schedule.reorder(*outer, j, h, w, b, v, *loops[-inner:])
    for loop in (h, w, b):
        schedule.unroll(loop)
    init = schedule.decompose_reduction(acc, outer[0])
    *unrolled, lane = schedule.get_loops(init)[-4:]
    for loop in unrolled:
        schedule.unroll(loop)
    mark(schedule, lane)
    mark(schedule, v)
