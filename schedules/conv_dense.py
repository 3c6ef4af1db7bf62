"""What direct and pointwise convolutions share: packed weights, sums per register tile, and how a tile is scheduled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te
from tvm.s_tir.schedule import LoopRV

from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    RESULT,
    TirSchedule,
    inline_epilogue,
    loop_extent,
    reduce_axis,
    stage,
)
from edgeir.schedules.prefetch import mark_prefetch, prefetch_choices
from edgeir.schedules.task import Task
from edgeir.targets.target import Target


def output_block(problem: ConvProblem, target: Target) -> int:
    """Output channels that are computed together: the output's own block, or the shortest vector that holds all."""
    if problem.out_block or problem.groups > 1:
        return problem.out_block or target.lanes(32)
    return min(target.lanes(32), max(SHORTEST_VECTOR, 1 << (problem.out_group - 1).bit_length()))


SHORTEST_VECTOR = 4
"""Floats of the shortest SIMD register."""

SHORTEST_INNER = 4
"""Channels below which a part of a block is no loop of its own."""


def inner_channels(problem: ConvProblem) -> int:
    """Input channels of the innermost reduction loop: a block, or less where a group's last block is not full.

    Then it is the part of a block that divides both, or all channels of the group in one loop. The walk so leaves out
    the lanes beyond the last channel, a quarter of the work with 24 channels in blocks of 16.
    """
    if not problem.in_block:
        return problem.in_group
    part = math.gcd(problem.in_block, problem.in_group)
    return part if part == problem.in_block or part >= SHORTEST_INNER else problem.in_group


def pack_weight(problem: ConvProblem, block: int, blocks: int) -> Callable[[np.ndarray], np.ndarray]:
    """How OIHW weights become (O tiles, I blocks, KH, KW, I, blocks, block), zeros where a block is not full."""
    _, in_blocks, kh, kw, inner, _, _ = packed_shape(problem, block, blocks)

    def pack(weight: np.ndarray) -> np.ndarray:
        out_tiles = packed_shape(problem, block, blocks)[0]
        full = np.zeros((out_tiles * blocks * block, in_blocks * inner, kh, kw), weight.dtype)
        full[: weight.shape[0], : weight.shape[1]] = weight
        full = full.reshape(out_tiles, blocks, block, in_blocks, inner, kh, kw)
        return np.ascontiguousarray(full.transpose(0, 3, 5, 6, 4, 1, 2))

    return pack


def packed_shape(problem: ConvProblem, block: int, blocks: int) -> tuple[int, ...]:
    """Shape of the packed weight: (O tiles, I blocks, KH, KW, I, blocks, block)."""
    inner = inner_channels(problem)
    out_tiles = -(-problem.out_channels // (block * blocks))
    return (out_tiles, -(-problem.in_group // inner), *problem.kernel, inner, blocks, block)


def _product(
    problem: ConvProblem, block: int, blocks: int, x: te.Tensor, w: te.Tensor, at: Sequence[Any], axes: Sequence[Any]
) -> Any:
    """The sum at (n, o, b, v), whose products start at (row, column) of the padded input."""
    n, o, b, v, row, column = at
    k, r, c, i = axes
    inner, in_block = inner_channels(problem), problem.in_block
    group = o * (block * blocks) // problem.out_group if problem.groups > 1 else 0
    row, column = row + r * problem.dilations[0], column + c * problem.dilations[1]
    if not in_block:
        value = x[n, group * problem.in_group + i, row, column]
    elif in_block % inner == 0:
        parts = in_block // inner
        k_all = group * (problem.in_group // inner) + k
        value = x[n, k_all // parts, row, column, k_all % parts * inner + i]
    else:
        # Only a convolution with one group has channels that no part of a block divides.
        value = x[n, i // in_block, row, column, i % in_block]
    return te.sum(value * w[o, k, r, c, i, b, v], axis=list(axes))


def _reduce_axes(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Axes over input blocks, kernel rows, kernel columns and the channels of a block, for a packed weight's shape."""
    return tuple(reduce_axis(extent, name) for extent, name in zip(shape[1:5], "krci", strict=True))


def accumulate_rows(problem: ConvProblem, block: int, blocks: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """The convolution's sums as (N, O tiles, blocks, OH, OW, block)."""
    shape = packed_shape(problem, block, blocks)
    axes = _reduce_axes(shape)

    def element(n: Any, o: Any, b: Any, h: Any, q: Any, v: Any) -> Any:
        row, column = h * problem.strides[0], q * problem.strides[1]
        return _product(problem, block, blocks, x, w, (n, o, b, v, row, column), axes)

    return stage((problem.batch, shape[0], blocks, *problem.out_spatial, block), element, name=ACCUMULATE)


def accumulate_pixels(problem: ConvProblem, block: int, blocks: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """The convolution's sums over flattened pixels, as (N, O tiles, blocks, 1, OH * OW, block)."""
    shape, width = packed_shape(problem, block, blocks), problem.out_spatial[1]
    axes = _reduce_axes(shape)

    def element(n: Any, o: Any, b: Any, z: Any, p: Any, v: Any) -> Any:
        row, column = p // width * problem.strides[0], p % width * problem.strides[1]
        return _product(problem, block, blocks, x, w, (n, o, b, v, row, column), axes)

    return stage((problem.batch, shape[0], blocks, 1, problem.pixels, block), element, name=ACCUMULATE)


def result_of_pixels(problem: ConvProblem, block: int, blocks: int, acc: te.Tensor) -> te.Tensor:
    """The sums over flattened pixels as they lie in the blocked output: (N, O blocks, OH, OW, block)."""
    shape, width = (problem.batch, problem.out_blocks, *problem.out_spatial, block), problem.out_spatial[1]
    return stage(shape, lambda n, o, h, w, v: acc[n, o // blocks, o % blocks, 0, h * width + w, v], name=RESULT)


def result_of_rows(problem: ConvProblem, block: int, blocks: int, acc: te.Tensor) -> te.Tensor:
    """The sums as they lie in the output: (N, O blocks, OH, OW, block) or (N, O, OH, OW)."""
    if problem.out_block:
        shape = (problem.batch, problem.out_blocks, *problem.out_spatial, block)
        return stage(shape, lambda n, o, h, w, v: acc[n, o // blocks, o % blocks, h, w, v], name=RESULT)
    shape = (problem.batch, problem.out_channels, *problem.out_spatial)
    whole = block * blocks
    return stage(shape, lambda n, o, h, w: acc[n, o // whole, o % whole // block, h, w, o % block], name=RESULT)


@dataclass(frozen=True)
class TileSums:
    """How the sums of a register tile are computed.

    Attributes:
        accumulate: orders and unrolls the loops of the sums.
        mark_pixels: marks the loop over a tile's pixels for what is done to the function afterwards.
    """

    accumulate: Callable[[TirSchedule], None]
    mark_pixels: Callable[[TirSchedule, LoopRV], None] = lambda schedule, loop: None


def schedule_rows(
    schedule: TirSchedule,
    problem: ConvProblem,
    block: int,
    blocks: int,
    tile: tuple[int, int],
    outer: str,
    sums: TileSums | None = None,
) -> None:
    """Computes the sums of one register tile at a time (by FMAs if `sums` is None), and the epilogue on it."""
    sums = sums or FLOAT_SUMS
    out = inline_epilogue(schedule)
    acc = schedule.get_sblock(ACCUMULATE)
    n, o, h, w, *vector = schedule.get_loops(out)
    if vector:
        o, b = schedule.split(o, [None, blocks])
        inner = vector[0]
    else:
        o, b, inner = schedule.split(o, [None, blocks, block])
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
    sums.mark_pixels(schedule, column)
    schedule.compute_at(acc, w, preserve_unit_loops=True)
    for loop in (w,) if whole_rows else (h, w):
        cut_tail(schedule, loop)
    schedule.parallel(schedule.fuse(*order))
    sums.accumulate(schedule)


def cut_tail(schedule: TirSchedule, loop: LoopRV) -> None:
    """Has the last, partial tile of a loop compiled by itself, so that full tiles carry no conditions."""
    schedule.annotate(loop, "pragma_loop_partition_hint", 1)


def accumulate_in_registers(schedule: TirSchedule, reduction: int) -> None:
    """Orders the loops of the sums as reduction, pixels, channel blocks, vector, all but the first unrolled.

    Blocks vary fastest: each input element is then broadcast once and dies before the next is loaded. The other way
    round, the compiler keeps one register per pixel for the broadcasts and spills the sums. The sums stay in `global`
    scope: TVM puts only that on the stack, whence LLVM puts it in registers; `local` becomes a heap workspace.
    """
    acc = schedule.get_sblock(ACCUMULATE)
    loops = schedule.get_loops(acc)
    reduce_loops = loops[-reduction:]
    b, h, w, v = loops[-reduction - 4 : -reduction]
    schedule.reorder(*reduce_loops, h, w, b, v)
    for loop in (h, w, b):
        schedule.unroll(loop)
    schedule.vectorize(v)
    init = schedule.decompose_reduction(acc, reduce_loops[0])
    h, w, b, v = schedule.get_loops(init)[-4:]
    for loop in (h, w, b):
        schedule.unroll(loop)
    schedule.vectorize(v)


def schedule_pixels(
    schedule: TirSchedule,
    problem: ConvProblem,
    blocks: int,
    tile: int,
    chunk: int,
    outer: str,
    sums: TileSums | None = None,
) -> None:
    """Walks chunks of pixels and tiles of channels in parallel, the register tiles of a chunk innermost."""
    sums = sums or FLOAT_SUMS
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
    sums.mark_pixels(schedule, pixel)
    schedule.compute_at(acc, t, preserve_unit_loops=True)
    cut_tail(schedule, t)
    schedule.parallel(schedule.fuse(*order))
    sums.accumulate(schedule)


def pixel_tiles(schedule: TirSchedule, problem: ConvProblem, chunk: int, outer: str) -> list[tuple[LoopRV, int]]:
    """The loops over register tiles that `schedule_pixels` made, and how many iterations share a panel of weights."""
    (out,) = schedule.get_output_blocks(schedule.get_sblock("root"))
    pieces, tiles = schedule.get_loops(out)[:-4][-1], schedule.get_loops(out)[-4]
    chunks = problem.pixels // chunk
    shared = [(pieces, chunks)] if outer == "channels" and chunks > 1 else []
    return [*shared, (tiles, loop_extent(schedule, tiles))]


def fetch_choices(task: Task, problem: ConvProblem, block: int, target: Target) -> Sequence[int | str | bool]:
    """Values of the knob "prefetch" of a convolution whose output channels are computed in such blocks."""
    packed = packed_shape(problem, block, 1)
    assert problem.weight_operand is not None
    return prefetch_choices(task, problem.weight_operand, problem.pixels, packed[0], math.prod(packed), target)


def fetch_panels(schedule: TirSchedule, panels: int, tiles: Sequence[tuple[LoopRV, int]]) -> None:
    """Has each panel of weights fetched while the one before it is used, if there is a next one and several tiles.

    Args:
        schedule: with the float sums of register tiles.
        panels: of weights.
        tiles: the loops over register tiles, and how many iterations share a panel.
    """
    if panels > 1 and math.prod(count for _, count in tiles) > 1:
        mark_prefetch(schedule, schedule.get_loops(schedule.get_sblock(f"{ACCUMULATE}_update"))[-5], tiles)


FLOAT_SUMS = TileSums(lambda schedule: accumulate_in_registers(schedule, reduction=4))
"""Sums of floats by FMAs."""
