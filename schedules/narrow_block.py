"""The last channel block of a tile computed with half of a vector, where no channel fills the other half.

Units that execute a vector of 512 bits in two steps take one step for half of it, and no unit takes longer than for the
whole. The block still is stored whole: the lanes beyond the half are zeros, on which the epilogue runs.

    for b in unroll(2): for v in vectorized(16): sums[p, b, v] += …
    →
    for b in unroll(1): for v in vectorized(16): sums[p, b, v] += …
    for v in vectorized(8): sums[p, 1, v] += …

What sets the sums to zero and what reads them is cut into halves, so that LLVM keeps the two halves in registers of
their own, one of them constant.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir.stmt import SBlockRealize
from tvm_ffi import get_global_func

from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.tir_types import AnyFunc, AnySchedule
from edgeir.targets.target import Target

NARROWEST_UNIT_BITS = 256
"""Vectors of this width run no faster when they are halved."""

_LANES, _PARTS = "edgeir.narrow_lanes", "edgeir.narrow_parts"


def used_lanes(problem: ConvProblem, target: Target) -> int:
    """Lanes that the last output block needs: the block, or half of it where that holds all channels and costs less."""
    block, half = problem.out_block, problem.out_block // 2
    last = problem.out_channels - (problem.out_blocks - 1) * block
    halves = problem.groups == 1 and 32 * block == target.vector_bits and 32 * half >= NARROWEST_UNIT_BITS
    return half if halves and last <= half else block


def mark_sums(schedule: AnySchedule, blocks: Any, lanes: int) -> None:
    """Has the last iteration of the loop over channel blocks compute its first `lanes` lanes only."""
    schedule.annotate(blocks, _LANES, lanes)


def mark_whole(schedule: AnySchedule, blocks: Any, lanes: int) -> None:
    """Has the last iteration of the loop over channel blocks go `lanes` lanes at a time."""
    schedule.annotate(blocks, _PARTS, lanes)


def with_narrow_blocks(func: AnyFunc) -> AnyFunc:
    """The function with its marked loops over channel blocks, around nothing but a vector loop, cut."""

    def rewrite(loop: Any) -> Any:
        if _LANES in loop.annotations:
            return _cut(loop, int(loop.annotations[_LANES]), 1)
        if _PARTS in loop.annotations:
            lanes = int(loop.annotations[_PARTS])
            return _cut(loop, lanes, int(loop.body.extent) // lanes)
        return loop

    return get_global_func("s_tir.RenewDefs")(tvm_ffi.structural_map(func, ((tirx.For, rewrite),)))


def _cut(loop: Any, lanes: int, parts: int) -> Any:
    def repeat(variable: Any, count: int, kind: Any, body: Any, step: Any) -> Any:
        zero: Any = tirx.IntImm(variable.ty, 0)
        return tirx.For(variable, zero, tirx.IntImm(variable.ty, count), kind, body, None, {}, step)

    vector, last = loop.body, int(loop.extent) - 1
    first = repeat(loop.loop_var, last, loop.kind, vector, loop.step)
    part: Any = tirx.Var("part", loop.loop_var.ty)
    lane: Any = tirx.Var("lane", vector.loop_var.ty)
    start = part * lanes + lane if parts > 1 else lane

    def replaced(variable: Any) -> Any:
        if variable.same_as(loop.loop_var):
            return tirx.IntImm(variable.ty, last)
        return start if variable.same_as(vector.loop_var) else variable

    def bound(realize: Any) -> Any:
        values = [tvm_ffi.structural_map(value, ((tirx.Var, replaced),)) for value in realize.iter_values]
        predicate = tvm_ffi.structural_map(realize.predicate, ((tirx.Var, replaced),))
        return SBlockRealize(values, predicate, realize.block)

    body: Any = tvm_ffi.structural_map(vector.body, ((SBlockRealize, bound),))
    body = repeat(lane, lanes, vector.kind, body, vector.step)
    if parts > 1:
        body = repeat(part, parts, loop.kind, body, loop.step)
    return tirx.SeqStmt([first, body]) if last else body
