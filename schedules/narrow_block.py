"""The last channel block of a tile computed with half of a vector, where no channel fills the other half.

Units that execute a vector of 512 bits in two steps take one step for half of it, and no unit takes longer than for the
whole.

    for b in unroll(2): for v in vectorized(16): sums[p, b, v] += …
    →
    for b in unroll(1): for v in vectorized(16): sums[p, b, v] += …
    for v in vectorized(8): sums[p, 1, v] += …

Where it is known that whole vectors take two steps, all blocks are cut into halves: those alone run at 97 % of the
peak, a mixture of whole and half vectors at 84 % (Zen 4, 24 channels).

The last block still is stored whole: the lanes beyond the half are zeros, on which the epilogue runs. What sets the
sums to zero and what reads them is cut into halves as well, so that LLVM keeps the two halves in registers of their
own, one of them constant.
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

MOST_HALVES = 7
"""Half vectors of a pixel from which on fewer than three pixels fit the registers, and whole vectors are faster."""

_SUMS, _HALVES, _WHOLE = "edgeir.narrow_sums", "edgeir.narrow_halves", "edgeir.narrow_whole"


def used_lanes(problem: ConvProblem, target: Target) -> int:
    """Lanes that the last output block needs: the block, or half of it where that holds all channels and costs less."""
    block, half = problem.out_block, problem.out_block // 2
    last = problem.out_channels - (problem.out_blocks - 1) * block
    halves = problem.groups == 1 and 32 * block == target.vector_bits and 32 * half >= NARROWEST_UNIT_BITS
    return half if halves and last <= half else block


def only_halves(blocks: int, target: Target) -> bool:
    """Whether all sums of so many channel blocks are better computed with half vectors."""
    return 2 * target.unit_bits == target.vector_bits and 2 * blocks - 1 <= MOST_HALVES


def mark_sums(schedule: AnySchedule, blocks: Any, lanes: int, halves: bool) -> None:
    """Has the last iteration of the loop over channel blocks compute its first `lanes` lanes only.

    Args:
        schedule: where the loop is.
        blocks: the loop.
        lanes: half of a block.
        halves: whether the other iterations go that many lanes at a time.
    """
    schedule.annotate(blocks, _HALVES if halves else _SUMS, lanes)


def mark_whole(schedule: AnySchedule, blocks: Any, lanes: int) -> None:
    """Has the loop over channel blocks go `lanes` lanes at a time."""
    schedule.annotate(blocks, _WHOLE, lanes)


def with_narrow_blocks(func: AnyFunc) -> AnyFunc:
    """The function with its marked loops over channel blocks, around nothing but a vector loop, cut."""

    def rewrite(loop: Any) -> Any:
        for mark in (_SUMS, _HALVES):
            if mark in loop.annotations:
                block, lanes, last = int(loop.body.extent), int(loop.annotations[mark]), int(loop.extent) - 1
                narrow = _cut(loop, last, 1, lanes, 1)
                first = _cut(loop, 0, last, block if mark == _SUMS else lanes)
                return tirx.SeqStmt([first, narrow]) if last else narrow
        if _WHOLE in loop.annotations:
            return _cut(loop, 0, int(loop.extent), int(loop.annotations[_WHOLE]))
        return loop

    return get_global_func("s_tir.RenewDefs")(tvm_ffi.structural_map(func, ((tirx.For, rewrite),)))


def _cut(loop: Any, first: int, count: int, lanes: int, parts: int = 0) -> Any:
    """`count` iterations of the loop from `first` on, the first `parts` parts (0: all) of `lanes` lanes of each."""
    vector = loop.body
    block: Any = tirx.Var("block", loop.loop_var.ty)
    part: Any = tirx.Var("part", loop.loop_var.ty)
    lane: Any = tirx.Var("lane", vector.loop_var.ty)

    def repeat(variable: Any, extent: int, kind: Any, body: Any, step: Any) -> Any:
        zero: Any = tirx.IntImm(variable.ty, 0)
        return tirx.For(variable, zero, tirx.IntImm(variable.ty, extent), kind, body, None, {}, step)

    def replaced(variable: Any) -> Any:
        if variable.same_as(loop.loop_var):
            return block + first
        return part * lanes + lane if variable.same_as(vector.loop_var) else variable

    def bound(realize: Any) -> Any:
        values = [tvm_ffi.structural_map(value, ((tirx.Var, replaced),)) for value in realize.iter_values]
        predicate = tvm_ffi.structural_map(realize.predicate, ((tirx.Var, replaced),))
        return SBlockRealize(values, predicate, realize.block)

    body: Any = tvm_ffi.structural_map(vector.body, ((SBlockRealize, bound),))
    body = repeat(lane, lanes, vector.kind, body, vector.step)
    body = repeat(part, parts or int(vector.extent) // lanes, loop.kind, body, loop.step)
    return repeat(block, count, loop.kind, body, loop.step)
