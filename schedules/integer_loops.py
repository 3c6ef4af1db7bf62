"""Loops of integer convolutions: those of float ones (`conv_dense`), with the sums of a tile by inner products."""

from __future__ import annotations

from edgeir.schedules.conv_dense import TileSums
from edgeir.schedules.conv_stages import ACCUMULATE, TirSchedule
from edgeir.schedules.dot_intrinsics import DotProduct
from edgeir.schedules.dot_loops import mark
from edgeir.schedules.integer_narrowing import mark_narrowing


def dot_tile(dot: DotProduct) -> TileSums:
    """Sums by inner products, from which results of a byte are packed pixel by pixel."""
    return TileSums(lambda schedule: accumulate_in_registers(schedule, dot), mark_narrowing)


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
