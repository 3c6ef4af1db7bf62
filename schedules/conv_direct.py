"""Direct 2-D convolution: a register tile of pixels x channel blocks, accumulated over input channels and kernel.

    acc[o, p, v] += x[k, p * stride + kernel, i] * w[o, k, kernel, i, v]

One input element is broadcast against vectors of packed weights; bias and epilogue run on the register tile. The input
may be plain or blocked, the output plain or blocked. Zeros around the input come from a padded copy, which takes one to
three per cent of the time of a 3x3 layer. Tiles are cut from rows, or from flattened pixels where rows would leave
ragged tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tvm import te
from tvm.s_tir.schedule import LoopRV

from edgeir.schedules.conv_dense import (
    accumulate_pixels,
    accumulate_rows,
    fetch_choices,
    fetch_panels,
    output_block,
    pack_weight,
    packed_shape,
    pixel_tiles,
    result_of_pixels,
    result_of_rows,
    schedule_pixels,
    schedule_rows,
)
from edgeir.schedules.conv_problem import ConvProblem, conv_problem, is_plain_float_conv
from edgeir.schedules.conv_stages import (
    TirSchedule,
    check_config,
    kernel_function,
    loop_extent,
    new_schedule,
    schedule_copies,
    workspace_bytes,
    zero_padded,
)
from edgeir.schedules.prefetch import with_prefetch
from edgeir.schedules.register_tile import choose_tile, divisors, total_cycles, vectors_per_block
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

MOST_FLAT_PIXELS = 8
"""Pixels of a flattened tile: each needs an address of its own, and there are about a dozen registers for addresses."""

FETCHED_PIXELS = 64
"""Pixels up to which fetching weights ahead gained (1 to 5 % of a 3x3 layer of 7x7 pixels); beyond, reading them is
lost in the arithmetic."""


class ConvDirect:
    """Direct convolution with any kernel, stride, dilation and padding, whole channel blocks per group."""

    name = "conv_direct"

    def match(self, task: Task, target: Target) -> bool:
        """Float32 2-D convolutions with constant weights whose groups consist of whole channel blocks."""
        if not is_plain_float_conv(task):
            return False
        problem = conv_problem(task)
        if problem.rank != 2 or problem.weight_operand is None:
            return False
        block = output_block(problem, target)
        whole_out = problem.groups == 1 or problem.out_group % block == 0
        whole_in = problem.groups == 1 or not problem.in_block or problem.in_group % problem.in_block == 0
        return whole_out and whole_in and block > 1

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Tile rows and columns, blocks of a tile, the outermost loop, how pixels are walked, and fetched weights."""
        problem = conv_problem(task)
        block = output_block(problem, target)
        rows, columns = problem.out_spatial
        return {
            "tile_rows": [n for n in (1, 2, 4) if n <= rows],
            "tile_columns": list(range(1, min(problem.pixels, max(columns, 8), target.vector_registers) + 1)),
            "blocks": divisors(-(-problem.out_group // block), 8),
            "outer": ["channels", "pixels"],
            "walk": ["rows", "flat"] if problem.out_block else ["rows"],
            "prefetch": fetch_choices(task, problem, block, target),
        }

    def default(self, task: Task, target: Target) -> Config:
        """The walk and tile with the fewest cycles."""
        problem = conv_problem(task)
        block = output_block(problem, target)
        rows, columns = problem.out_spatial
        blocks, vectors = -(-problem.out_group // block), vectors_per_block(block, target)
        walk, tile = "rows", choose_tile(rows, columns, blocks, block, target, max_rows=2)
        cycles = total_cycles(rows, columns, blocks, tile, vectors, target)
        if problem.out_block:
            pixels = flat_chunk(problem, blocks, target)
            flat = choose_tile(1, pixels, blocks, block, target, max_columns=MOST_FLAT_PIXELS)
            flat_cycles = total_cycles(1, pixels, blocks, flat, vectors, target) * (problem.pixels // pixels)
            if flat_cycles < 0.98 * cycles:
                walk, tile = "flat", flat
        return {
            "tile_rows": tile.rows,
            "tile_columns": tile.columns,
            "blocks": tile.blocks,
            "outer": outer_loop(problem, target),
            "walk": walk,
            "prefetch": problem.pixels <= FETCHED_PIXELS and True in self.space(task, target)["prefetch"],
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace is the padded input."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        index = problem.weight_operand
        assert index is not None
        block, blocks = output_block(problem, target), int(config["blocks"])
        flat, outer = config["walk"] == "flat", str(config["outer"])

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            x = zero_padded(inputs[0], problem)
            if flat:
                return result_of_pixels(problem, block, blocks, accumulate_pixels(problem, block, blocks, x, inputs[1]))
            return result_of_rows(problem, block, blocks, accumulate_rows(problem, block, blocks, x, inputs[1]))

        packed = packed_shape(problem, block, blocks)
        placeholders, outputs = task.build(anchor, {index: packed})
        schedule = new_schedule(task, placeholders, outputs)
        schedule_copies(schedule, parallel=True)
        rows, columns = int(config["tile_rows"]), int(config["tile_columns"])
        if flat:
            chunk = flat_chunk(problem, -(-problem.out_group // block), target)
            schedule_pixels(schedule, problem, blocks, columns, chunk, outer)
            tiles = pixel_tiles(schedule, problem, chunk, outer)
        else:
            schedule_rows(schedule, problem, block, blocks, (rows, columns), outer)
            tiles = _row_tiles(schedule, problem, rows, outer)
        if config["prefetch"]:
            fetch_panels(schedule, packed[0], tiles)
        func = kernel_function(schedule, problem, target)
        return Kernel(
            func=with_prefetch(func, index, outer=1, inner=2),
            pack={index: pack_weight(problem, block, blocks)},
            workspace_bytes=workspace_bytes(problem, task.anchor_inputs[0].shape),
        )


def _row_tiles(schedule: TirSchedule, problem: ConvProblem, tile_rows: int, outer: str) -> list[tuple[LoopRV, int]]:
    """The loops over register tiles that `schedule_rows` made, and how many iterations share a panel of weights."""
    (out,) = schedule.get_output_blocks(schedule.get_sblock("root"))
    *around, rows, columns = schedule.get_loops(out)[:-4]
    count = problem.out_spatial[0] // tile_rows
    # Whole rows of tiles are part of the fused loop, innermost or outside of the channels; others have their own loop.
    shared = loop_extent(schedule, rows) if around else count if outer == "channels" else 1
    return [*([(rows, shared)] if shared > 1 else []), (columns, loop_extent(schedule, columns))]


def flat_chunk(problem: ConvProblem, blocks: int, target: Target) -> int:
    """Pixels that one piece of work walks: the divisor with the fewest cycles, pieces for all threads considered."""
    block, vectors = problem.out_block, vectors_per_block(problem.out_block, target)
    best, best_cycles = problem.pixels, math.inf
    for chunk in reversed(divisors(problem.pixels, problem.pixels)):
        tile = choose_tile(1, chunk, blocks, block, target, max_columns=MOST_FLAT_PIXELS)
        chunks = problem.pixels // chunk
        pieces = problem.batch * problem.groups * chunks * (blocks // tile.blocks)
        cycles = chunks * total_cycles(1, chunk, blocks, tile, vectors, target)
        # The last round of pieces leaves threads idle.
        cycles *= -(-pieces // target.cores) * target.cores / pieces
        if cycles < 0.98 * best_cycles:
            best, best_cycles = chunk, cycles
        if chunks >= 4 * target.cores:
            break
    return best


def outer_loop(problem: ConvProblem, target: Target) -> str:
    """`channels` if the weights are larger than the input (they are read once), else `pixels`."""
    weights = problem.out_channels * problem.in_group * problem.kernel[0] * problem.kernel[1]
    image = problem.in_channels * problem.padded_extent(0) * problem.padded_extent(1)
    cached = (target.l2_bytes or target.l1_bytes) // 8
    return "channels" if weights >= image or image <= cached else "pixels"
