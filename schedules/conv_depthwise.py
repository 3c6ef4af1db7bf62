"""Depthwise convolution in blocked layout: every channel by itself, a vector of channels at a time.

    acc[p, v] += x[p * stride + kernel, v] * w[kernel, v]

A register tile of pixels is accumulated over the unrolled kernel, then bias and epilogue run on it. Zeros around the
input are either tested for where it is read (`inline`), with border tiles compiled apart from inner ones, or come from
a padded copy of the rows of one channel block (`copy`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.schedules.conv_dense import cut_tail
from edgeir.schedules.conv_problem import ConvProblem, conv_problem, is_plain_float_conv
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    PAD,
    RESULT,
    TirSchedule,
    block_name,
    check_config,
    inline_epilogue,
    kernel_function,
    new_schedule,
    producers_of_accumulation,
    reduce_axis,
    schedule_elementwise,
    stage,
    static_shape,
    zero_padded,
)
from edgeir.schedules.register_tile import STACK_LIMIT, divisors, vectors_per_block
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

UNROLLED_ROWS = 3
"""Kernel rows up to which all kernel positions are unrolled; beyond, only those of one kernel row."""


MOST_COLUMNS = 10
"""Columns of a tile: more do not run faster, but are unrolled into more code."""


def pack_weight(problem: ConvProblem) -> Callable[[np.ndarray], np.ndarray]:
    """How (C, 1, KH, KW) weights become (C blocks, KH, KW, block), zeros where the last block is not full."""
    block = problem.out_block

    def pack(weight: np.ndarray) -> np.ndarray:
        full = np.zeros((problem.out_blocks * block, *problem.kernel), weight.dtype)
        full[: weight.shape[0]] = weight[:, 0]
        return np.ascontiguousarray(full.reshape(problem.out_blocks, block, *problem.kernel).transpose(0, 2, 3, 1))

    return pack


def packed_shape(problem: ConvProblem) -> tuple[int, ...]:
    """Shape of the packed weight: (C blocks, KH, KW, block)."""
    return (problem.out_blocks, *problem.kernel, problem.out_block)


def accumulate(problem: ConvProblem, x: te.Tensor, w: te.Tensor, inline: bool) -> te.Tensor:
    """The sums in the output's layout; `inline` tests for the border where `x` is read."""
    strides, dilations = problem.strides, problem.dilations
    r, c = (reduce_axis(extent, name) for extent, name in zip(problem.kernel, "rc", strict=True))

    def element(n: Any, k: Any, h: Any, q: Any, v: Any) -> Any:
        at = [h * strides[0] + r * dilations[0], q * strides[1] + c * dilations[1]]
        if not inline:
            return te.sum(x[n, k, at[0], at[1], v] * w[k, r, c, v], axis=[r, c])
        inside = []
        for axis in range(2):
            begin = problem.pads_begin[axis]
            at[axis] = at[axis] - begin
            if begin:
                inside.append(tirx.likely(at[axis] >= 0))
            if problem.pads_end[axis]:
                inside.append(tirx.likely(at[axis] < problem.in_spatial[axis]))
        value = x[n, k, at[0], at[1], v]
        if inside:
            value = tirx.if_then_else(tirx.all(*inside), value, tirx.const(0.0, "float32"))
        return te.sum(value * w[k, r, c, v], axis=[r, c])

    shape = (problem.batch, problem.out_blocks, *problem.out_spatial, problem.out_block)
    return stage(shape, element, name=ACCUMULATE)


class ConvDepthwise:
    """Depthwise convolution with channel multiplier 1, blocked input and output."""

    name = "conv_depthwise"

    def match(self, task: Task, target: Target) -> bool:
        """Float32 2-D depthwise convolutions with constant weights, the same blocks in and out."""
        if not is_plain_float_conv(task):
            return False
        problem = conv_problem(task)
        blocked = problem.in_block == problem.out_block and problem.out_block > 1
        return problem.rank == 2 and problem.depthwise and blocked and problem.weight_operand is not None

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Rows and columns of a register tile, rows handed to a thread at once, and where zeros come from."""
        rows, columns = conv_problem(task).out_spatial
        return {
            "tile_rows": [n for n in (1, 2, 4) if rows % n == 0],
            "tile_columns": list(range(1, min(columns, target.vector_registers) + 1)),
            "band_rows": divisors(rows, rows),
            "padding": ["copy", "inline"],
        }

    def default(self, task: Task, target: Target) -> Config:
        """The widest tile whose sums, inputs and one weight fit the registers; bands for all threads."""
        problem = conv_problem(task)
        return {
            "tile_rows": 1,
            "tile_columns": tile_columns(problem, target),
            "band_rows": band_rows(problem, target),
            "padding": "inline",
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace is one padded band per thread."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        index = problem.weight_operand
        assert index is not None
        inline = config["padding"] == "inline"

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            x = inputs[0] if inline else zero_padded(inputs[0], problem)
            acc = accumulate(problem, x, inputs[1], inline)
            return stage(static_shape(acc), lambda *i: acc(*i), name=RESULT)

        placeholders, outputs = task.build(anchor, {index: packed_shape(problem)})
        schedule = new_schedule(task, placeholders, outputs)
        tile = (int(config["tile_rows"]), int(config["tile_columns"]))
        band = max(tile[0], int(config["band_rows"]))
        band = band if band % tile[0] == 0 and problem.out_spatial[0] % band == 0 else problem.out_spatial[0]
        copied = problem.padded and not inline
        bands = problem.out_spatial[0] // band
        by_rows = bands > 1 and bands % target.cores == 0 and band >= problem.kernel[0]
        schedule_tile(schedule, problem, tile, band, copied, by_rows)
        band_in = (band - 1) * problem.strides[0] + (problem.kernel[0] - 1) * problem.dilations[0] + 1
        workspace = 4 * band_in * problem.padded_extent(1) * problem.out_block * target.cores if copied else 0
        return Kernel(
            func=kernel_function(schedule, problem, target),
            pack={index: pack_weight(problem)},
            workspace_bytes=workspace,
        )


def band_rows(problem: ConvProblem, target: Target) -> int:
    """Rows of a band: as many bands as threads, or else a divisor such that there are four pieces for each thread.

    A thread then reads the rows that it wrote itself, where the convolution before walks pixels: they are in its cache.
    """
    rows = problem.out_spatial[0]
    if target.cores == 1:
        return rows
    shared = next((d for d in divisors(rows, rows) if d % target.cores == 0), 0)
    if shared and rows // shared >= problem.kernel[0]:
        return rows // shared
    wanted = -(-4 * target.cores // (problem.batch * problem.out_blocks))
    return rows // next((d for d in divisors(rows, rows) if d >= wanted), rows)


def tile_columns(problem: ConvProblem, target: Target) -> int:
    """Columns of a register tile: sums, one kernel row of inputs and a weight fit, with the least ragged tail."""
    vectors = vectors_per_block(problem.out_block, target)
    width = problem.out_spatial[1]
    reach = (problem.kernel[1] - 1) * problem.dilations[1] + 1
    vector_bytes = max(4, target.vector_bits // 8)
    best = 1
    for columns in range(1, min(width, MOST_COLUMNS) + 1):
        inputs = min(columns * problem.kernel[1], (columns - 1) * problem.strides[1] + reach)
        fits = vectors * (columns + inputs + 1) <= target.vector_registers
        if fits and columns * vectors * vector_bytes < STACK_LIMIT and -(-width // columns) < -(-width // best):
            best = columns
    return best


def schedule_tile(
    schedule: TirSchedule, problem: ConvProblem, tile: tuple[int, int], band: int, copied: bool, by_rows: bool
) -> None:
    """Bands of rows of channel blocks in parallel; in each, register tiles with the kernel unrolled.

    Args:
        schedule: of the stages of a depthwise convolution.
        problem: the convolution.
        tile: rows and columns of a register tile.
        band: rows that a thread computes of one channel block.
        copied: whether the padded input is copied.
        by_rows: whether threads share the rows, or else the channels.
    """
    copies = producers_of_accumulation(schedule)
    out = inline_epilogue(schedule)
    acc = schedule.get_sblock(ACCUMULATE)
    for block in copies:
        if not (copied and block_name(schedule, block) == PAD):
            schedule_elementwise(schedule, schedule.get_loops(block), parallel=True)
    n, k, h, w, v = schedule.get_loops(out)
    piece, rest = schedule.split(h, [None, band])
    h, row = schedule.split(rest, [None, tile[0]])
    w, column = schedule.split(w, [None, tile[1]])
    order = (n, piece, k) if by_rows else (n, k, piece)
    schedule.reorder(*order, h, w, row, column, v)
    for loop in (row, column):
        schedule.unroll(loop)
    schedule.vectorize(v)
    schedule.compute_at(acc, w, preserve_unit_loops=True)
    if copied:
        pad = schedule.get_sblock(PAD)
        schedule.compute_at(pad, order[-1], preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(pad)[-1])
    # Large kernels: one condition per kernel row costs little, and compiling three sorts of rows apart costs much.
    small = problem.kernel[0] <= UNROLLED_ROWS
    for loop in (h, w) if small else (w,):
        cut_tail(schedule, loop)
    schedule.parallel(schedule.fuse(*order))
    loops = schedule.get_loops(acc)
    rows, columns, lanes, r, c = loops[-5:]
    schedule.reorder(r, c, rows, columns, lanes)
    for loop in (r, c, rows, columns) if small else (c, rows, columns):
        schedule.unroll(loop)
    schedule.vectorize(lanes)
    init = schedule.decompose_reduction(acc, r)
    rows, columns, lanes = schedule.get_loops(init)[-3:]
    for loop in (rows, columns):
        schedule.unroll(loop)
    schedule.vectorize(lanes)
