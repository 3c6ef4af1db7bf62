"""Depthwise convolution of 8-bit integers in blocked layout, summed exactly.

Two ways to the same sums:

- `dot`: a few taps of a kernel row at a time with the machine's dot product (`integer_depthwise_intrinsics`);
- `multiply`: float32 multiply-adds on rows that are converted once. All sums are whole numbers below 2^24, hence exact.

In both, a band of input rows of one channel block is copied with its border (which holds the zero point), and bias and
epilogue run on the register tile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import te

from edgeir.schedules.conv_dense import cut_tail
from edgeir.schedules.conv_depthwise import UNROLLED_ROWS
from edgeir.schedules.conv_problem import ConvProblem, conv_problem
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    PAD,
    TirSchedule,
    block_name,
    check_config,
    inline_epilogue,
    kernel_function,
    new_schedule,
    producers_of_accumulation,
    schedule_elementwise,
)
from edgeir.schedules.integer_depthwise_intrinsics import TapDot, tap_dot
from edgeir.schedules.integer_depthwise_loops import mark_tile, with_tap_products
from edgeir.schedules.integer_depthwise_stages import (
    WEIGHTS,
    band_bytes,
    bordered,
    dot_sums,
    float_sums,
    pack_weight,
    packed_shape,
)
from edgeir.schedules.integer_depthwise_tile import best_band, choose_tile
from edgeir.schedules.integer_narrowing import mark_narrowing, with_packed_stores
from edgeir.schedules.register_tile import STACK_LIMIT, divisors, vectors_per_block
from edgeir.schedules.tails import apply_overlaps, overlap_tail
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

_EXACT = 2**24
"""Whole numbers up to here are exact in float32."""


class IntegerDepthwise:
    """Depthwise `conv_integer` with channel multiplier 1, the same blocks in and out."""

    name = "integer_depthwise"

    def match(self, task: Task, target: Target) -> bool:
        """2-D depthwise convolutions with constant weights whose zero points are constants (the weights' is 0)."""
        if target.kind != "llvm" or task.anchor != "conv_integer" or task.integers is None or len(task.outputs) != 1:
            return False
        if task.outputs[0].shape != task.anchor_output.shape or task.anchor_inputs[1].dtype not in ("int8", "uint8"):
            return False
        problem = conv_problem(task)
        blocked = problem.in_block == problem.out_block and problem.out_block > 1
        if problem.rank != 2 or not problem.depthwise or not blocked or problem.weight_operand is None:
            return False
        return bool(_ways(task, problem, target))

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """How sums are formed, rows and columns of a register tile, and output rows whose input is copied at once."""
        problem = conv_problem(task)
        rows, columns = problem.out_spatial
        return {
            "sums": _ways(task, problem, target),
            "tile_rows": [n for n in range(1, 9) if n <= rows],
            "tile_columns": list(range(1, min(columns, target.vector_registers) + 1)),
            "band_rows": divisors(rows, rows),
        }

    def default(self, task: Task, target: Target) -> Config:
        """The dot product where there is one; a tile in registers; bands whose copies stay in the first cache."""
        problem = conv_problem(task)
        way = _ways(task, problem, target)[0]
        dot = _dot(task, problem, target) if way == "dot" else None
        bands = _bands(problem, dot, target)
        rows, columns = _tile(problem, dot, bands, target)
        return {
            "sums": way,
            "tile_rows": rows,
            "tile_columns": columns,
            "band_rows": best_band(bands, rows),
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace is one padded band, and the converted weights of a block, per thread."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        dot = _dot(task, problem, target) if config["sums"] == "dot" else None
        index, facts = problem.weight_operand, task.integers
        assert index is not None and facts is not None
        tile = (int(config["tile_rows"]), int(config["tile_columns"]))
        band = int(config["band_rows"])
        band = band if band >= tile[0] else problem.out_spatial[0]

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            x = bordered(inputs[0], problem, facts.left_zero, dot)
            return float_sums(x, inputs[1], problem) if dot is None else dot_sums(x, inputs[1], problem, dot)

        placeholders, outputs = task.build(anchor, {index: packed_shape(problem, dot)})
        schedule = _schedule(new_schedule(task, placeholders, outputs), problem, dot, tile, band)
        # Straight-line code has no bounds tests: overlap the tails first.
        func = apply_overlaps(kernel_function(schedule, problem, target))
        if dot is not None:
            func = with_tap_products(func, problem, dot)
        func = with_packed_stores(func, target)
        workspace = band_bytes(problem, dot, band)
        workspace += 4 * math.prod(problem.kernel) * problem.out_block if dot is None else 0
        return Kernel(func, {index: pack_weight(problem, dot)}, workspace * target.cores)


def _ways(task: Task, problem: ConvProblem, target: Target) -> list[str]:
    """How the sums can be formed exactly, the fastest first."""
    x, w = task.anchor_inputs[:2]
    ways = [] if _dot(task, problem, target) is None else ["dot"]
    largest = {"int8": 128, "uint8": 255}
    if largest[x.dtype] * largest[w.dtype] * math.prod(problem.kernel) < _EXACT:
        ways.append("multiply")
    return ways


def _dot(task: Task, problem: ConvProblem, target: Target) -> TapDot | None:
    """The dot product for the task, or None."""
    x, w = task.anchor_inputs[:2]
    if problem.dilations[1] != 1 or w.dtype != "int8":
        return None
    return tap_dot(target, problem.out_block, x.dtype)


def _tile(problem: ConvProblem, dot: TapDot | None, bands: Sequence[int], target: Target) -> tuple[int, int]:
    """Rows and columns of a register tile; without a dot product, columns that waste least at the right edge."""
    if dot is not None:
        return choose_tile(problem, dot, bands, target)
    vectors = vectors_per_block(problem.out_block, target)
    width, taps = problem.out_spatial[1], problem.kernel[1]
    best, best_steps = 1, math.inf
    for columns in range(1, min(width, 8) + 1):
        inputs = min(columns * taps, (columns - 1) * problem.strides[1] + taps)
        held = columns * max(4 * problem.out_block, target.vector_bits // 8)
        if vectors * (columns + inputs + 2) > target.vector_registers or held >= STACK_LIMIT:
            break
        steps = -(-width // columns)
        if steps < best_steps:
            best, best_steps = columns, steps
    return 1, best


def _bands(problem: ConvProblem, dot: TapDot | None, target: Target) -> list[int]:
    """Output rows of a band that keep its copy in half of the first cache, and give each thread its piece."""
    rows = problem.out_spatial[0]
    pieces = 1 if target.cores == 1 else -(-4 * target.cores // (problem.batch * problem.out_blocks))
    cache = max(target.l1_bytes, 16 * 1024) // 2
    bands = divisors(rows, rows)
    return [n for n in bands if rows // n >= pieces and band_bytes(problem, dot, n) <= cache] or bands[:1]


def _schedule(
    schedule: TirSchedule, problem: ConvProblem, dot: TapDot | None, tile: tuple[int, int], band: int
) -> TirSchedule:
    """Bands of rows of channel blocks in parallel; in each, register tiles with the kernel unrolled."""
    for block in producers_of_accumulation(schedule):
        if block_name(schedule, block) not in (PAD, WEIGHTS):
            schedule_elementwise(schedule, schedule.get_loops(block), parallel=True)
    out = inline_epilogue(schedule)
    acc, pad = schedule.get_sblock(ACCUMULATE), schedule.get_sblock(PAD)
    n, k, h, w, v = schedule.get_loops(out)
    piece, rest = schedule.split(h, [None, band])
    h, row = schedule.split(rest, [None, tile[0]])
    w, column = schedule.split(w, [None, tile[1]])
    schedule.reorder(n, k, piece, h, w, row, column, v)
    for loop in (row, column):
        schedule.unroll(loop)
    schedule.vectorize(v)
    mark_narrowing(schedule, column)
    schedule.compute_at(acc, w, preserve_unit_loops=True)
    schedule.compute_at(pad, piece, preserve_unit_loops=True)
    *_, across, lanes = schedule.get_loops(pad)
    schedule.vectorize(lanes)
    cut_tail(schedule, across)
    pieces = schedule.fuse(n, k, piece)
    if dot is None:
        weights = schedule.get_sblock(WEIGHTS)
        schedule.compute_at(weights, pieces, preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(weights)[-1])
    for outer, inner, length in ((h, tile[0], band), (w, tile[1], problem.out_spatial[1])):
        if length % inner:
            overlap_tail(schedule, outer, length)
    schedule.parallel(pieces)
    _order_sums(schedule, acc, problem, dot)
    return schedule


def _order_sums(schedule: TirSchedule, acc: Any, problem: ConvProblem, dot: TapDot | None) -> None:
    """The kernel outside, the tile inside, all unrolled: each input is loaded once and used while it is there."""
    *_, rows, columns, lanes, first, second = schedule.get_loops(acc)[: None if dot is None else -1]
    if dot is not None:
        mark_tile(schedule, rows)
        return
    schedule.reorder(first, second, rows, columns, lanes)
    for loop in (first, second, rows, columns) if problem.kernel[0] <= UNROLLED_ROWS else (second, rows, columns):
        schedule.unroll(loop)
    schedule.vectorize(lanes)
    init = schedule.decompose_reduction(acc, first)
    *_, rows, columns, lanes = schedule.get_loops(init)
    for loop in (rows, columns):
        schedule.unroll(loop)
    schedule.vectorize(lanes)
