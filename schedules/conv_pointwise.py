"""Pointwise (1x1, stride 1) convolution in blocked layout: a matrix product over flattened pixels.

    acc[o, p, v] += x[k, p, i] * w[o, k, i, v]

A register tile of pixels x channel blocks is accumulated over all input channels, then bias and epilogue run on it. The
pixels are walked in chunks whose input stays in the second-level cache while all output channels pass over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm import te

from edgeir.schedules.conv_dense import (
    accumulate_pixels,
    fetch_choices,
    fetch_panels,
    pack_weight,
    packed_shape,
    pixel_tiles,
    result_of_pixels,
    schedule_pixels,
)
from edgeir.schedules.conv_problem import ConvProblem, conv_problem, is_plain_float_conv
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    TirSchedule,
    check_config,
    kernel_function,
    new_schedule,
    schedule_copies,
)
from edgeir.schedules.narrow_block import mark_sums, mark_whole, only_halves, used_lanes, with_narrow_blocks
from edgeir.schedules.prefetch import with_prefetch, worth_prefetch
from edgeir.schedules.register_tile import RegisterTile, choose_tile, divisors, total_cycles, vectors_per_block
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

SMALLEST_CHUNK = 48
"""Pixels below which a chunk costs more in repeated weight loads than it gains."""


class ConvPointwise:
    """1x1 convolution with stride 1 and no padding, blocked input and output."""

    name = "conv_pointwise"

    def match(self, task: Task, target: Target) -> bool:
        """Float32 1x1 stride-1 convolutions with constant weights, blocked in and out, whole blocks per group."""
        if not is_plain_float_conv(task):
            return False
        problem = conv_problem(task)
        if not (problem.rank == 2 and problem.in_block > 1 and problem.out_block > 1):
            return False
        whole = problem.groups == 1 or (
            problem.in_group % problem.in_block == 0 and problem.out_group % problem.out_block == 0
        )
        ones = problem.kernel == (1, 1) and problem.strides == (1, 1)
        return whole and ones and not problem.padded and problem.weight_operand is not None

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Pixels and channel blocks of a register tile, pixels of a chunk, the outermost loop, and fetched weights."""
        problem = conv_problem(task)
        return {
            "tile_pixels": list(range(1, min(problem.pixels, target.vector_registers) + 1)),
            "blocks": divisors(-(-problem.out_group // problem.out_block), 8),
            "chunk_pixels": divisors(problem.pixels, problem.pixels),
            "outer": ["channels", "pixels"],
            "prefetch": fetch_choices(task, problem, problem.out_block, target),
        }

    def default(self, task: Task, target: Target) -> Config:
        """The chunk and tile with the fewest cycles, among chunks whose input fits half of the L2 cache."""
        problem = conv_problem(task)
        blocks = -(-problem.out_group // problem.out_block)
        cache = (target.l2_bytes or target.l1_bytes) // 2
        best: dict[str, int | str | bool] = {}
        best_cycles = math.inf
        for chunk in reversed(divisors(problem.pixels, problem.pixels)):
            if chunk < problem.pixels and chunk < SMALLEST_CHUNK:
                break
            tile = self._tile(problem, chunk, target)
            chunks = problem.pixels // chunk
            cycles = chunks * total_cycles(1, chunk, blocks, tile, vectors_per_block(problem.out_block, target), target)
            pieces = problem.batch * chunks * (blocks * problem.groups // tile.blocks)
            fits = 4 * problem.in_group * chunk <= cache
            # A chunk that spills from the cache, or too few pieces for the threads, costs far more than a ragged tile.
            cycles *= 1.0 if fits else 1.3
            if target.cores > 1 and pieces < 4 * target.cores:
                cycles *= 1.1 * -(-pieces // target.cores) * target.cores / pieces
            if cycles < best_cycles:
                best_cycles = cycles
                best = {"tile_pixels": tile.columns, "blocks": tile.blocks, "chunk_pixels": chunk}
        weights, image = problem.out_channels, problem.pixels
        config: Config = {**best, "outer": "channels" if weights >= 2 * image else "pixels"}
        return {**config, "prefetch": self._worth_prefetch(task, config, target)}

    def _worth_prefetch(self, task: Task, config: Config, target: Target) -> bool:
        problem = conv_problem(task)
        packed = packed_shape(problem, problem.out_block, int(config["blocks"]))
        tiles = int(config["chunk_pixels"]) // int(config["tile_pixels"])
        offered = True in self.space(task, target)["prefetch"]
        return offered and worth_prefetch(tiles, packed[0], math.prod(packed), target)

    def _tile(self, problem: ConvProblem, chunk: int, target: Target) -> RegisterTile:
        """The tile with the fewest cycles; one of half vectors where they save the last block's unused half."""
        blocks, lanes = problem.out_blocks // problem.groups, used_lanes(problem, target)
        if lanes == problem.out_block or not only_halves(blocks, target):
            return choose_tile(1, chunk, blocks, problem.out_block, target)
        halves = replace(target, vector_bits=32 * lanes)
        return replace(choose_tile(1, chunk, 1, (2 * blocks - 1) * lanes, halves), blocks=blocks)

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; it needs no workspace."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        index = problem.weight_operand
        assert index is not None
        block, blocks = problem.out_block, int(config["blocks"])

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            return result_of_pixels(problem, block, blocks, accumulate_pixels(problem, block, blocks, *inputs[:2]))

        packed = packed_shape(problem, block, blocks)
        placeholders, outputs = task.build(anchor, {index: packed})
        schedule = new_schedule(task, placeholders, outputs)
        schedule_copies(schedule, parallel=True)
        tile, chunk = int(config["tile_pixels"]), int(config["chunk_pixels"])
        schedule_pixels(schedule, problem, blocks, tile, chunk, str(config["outer"]))
        tiles = pixel_tiles(schedule, problem, chunk, str(config["outer"]))
        if config["prefetch"]:
            fetch_panels(schedule, packed[0], tiles)
        lanes = used_lanes(problem, target)
        narrow = lanes < block and blocks == problem.out_blocks
        if narrow:
            _mark_narrow(schedule, lanes, only_halves(blocks, target))
        func = kernel_function(schedule, problem, target)
        func = with_prefetch(func, index, outer=1, inner=2)
        func = with_narrow_blocks(func) if narrow else func
        return Kernel(func=func, pack={index: pack_weight(problem, block, blocks)})


def _mark_narrow(schedule: TirSchedule, lanes: int, halves: bool) -> None:
    """Has the last channel block computed with `lanes` lanes; its loops are the last two of each block."""
    mark_sums(schedule, schedule.get_loops(schedule.get_sblock(f"{ACCUMULATE}_update"))[-2], lanes, halves)
    mark_whole(schedule, schedule.get_loops(schedule.get_sblock(f"{ACCUMULATE}_init"))[-2], lanes)
    (out,) = schedule.get_output_blocks(schedule.get_sblock("root"))
    mark_whole(schedule, schedule.get_loops(out)[-2], lanes)
