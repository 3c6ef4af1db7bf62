"""Pointwise (1x1, stride 1) convolution in blocked layout: a matrix product over flattened pixels.

    acc[o, p, v] += x[k, p, i] * w[o, k, i, v]

A register tile of pixels x channel blocks is accumulated over all input channels, then bias and epilogue run on it. The
pixels are walked in chunks whose input stays in the second-level cache while all output channels pass over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tvm import te
from tvm.s_tir import Schedule

from edgeir.schedules.conv_direct import accumulate_in_registers, cut_tail, pack_weight, packed_shape
from edgeir.schedules.conv_problem import ConvProblem, conv_problem, is_plain_float_conv
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    RESULT,
    check_config,
    inline_epilogue,
    new_schedule,
    schedule_copies,
)
from edgeir.schedules.register_tile import choose_tile, divisors, total_cycles, vectors_per_block
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target


SMALLEST_CHUNK = 48
"""Pixels below which a chunk costs more in repeated weight loads than it gains."""


def accumulate_pixels(problem: ConvProblem, blocks: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """The sums as (N, O tiles, blocks, 1, pixels, block)."""
    block, width = problem.out_block, problem.out_spatial[1]
    out_tiles, in_blocks, kh, kw, inner, _, _ = packed_shape(problem, block, blocks)
    k, i = te.reduce_axis((0, in_blocks), name="k"), te.reduce_axis((0, inner), name="i")
    r, c = te.reduce_axis((0, kh), name="r"), te.reduce_axis((0, kw), name="c")

    def element(n, o, b, z, p, v):  # noqa: ANN001, ANN202
        group = o * (block * blocks) // problem.out_group if problem.groups > 1 else 0
        value = x[n, group * in_blocks + k, p // width + r, p % width + c, i]
        return te.sum(value * w[o, k, r, c, i, b, v], axis=[k, r, c, i])

    return te.compute((problem.batch, out_tiles, blocks, 1, problem.pixels, block), element, name=ACCUMULATE)


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
        """Pixels and channel blocks of a register tile, pixels of a chunk, and which loop is outermost."""
        problem = conv_problem(task)
        return {
            "tile_pixels": list(range(1, min(problem.pixels, target.vector_registers) + 1)),
            "blocks": divisors(-(-problem.out_group // problem.out_block), 8),
            "chunk_pixels": divisors(problem.pixels, problem.pixels),
            "outer": ["channels", "pixels"],
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
            tile = choose_tile(1, chunk, blocks, problem.out_block, target)
            chunks = problem.pixels // chunk
            cycles = chunks * total_cycles(1, chunk, blocks, tile, vectors_per_block(problem.out_block, target), target)
            pieces = problem.batch * chunks * (blocks * problem.groups // tile.blocks)
            fits = 4 * problem.in_group * chunk <= cache
            # A chunk that spills from the cache, or too few pieces for the threads, costs far more than a ragged tile.
            cycles *= (1.0 if fits else 1.3) * (1.0 if pieces >= 4 * target.cores or target.cores == 1 else 1.1)
            if cycles < best_cycles:
                best_cycles = cycles
                best = {"tile_pixels": tile.columns, "blocks": tile.blocks, "chunk_pixels": chunk}
        weights, image = problem.out_channels, problem.pixels
        return {**best, "outer": "channels" if weights >= 2 * image else "pixels"}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; it needs no workspace."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        index = problem.weight_operand
        assert index is not None
        blocks, width = int(config["blocks"]), problem.out_spatial[1]

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            acc = accumulate_pixels(problem, blocks, inputs[0], inputs[1])
            shape = (problem.batch, problem.out_blocks, *problem.out_spatial, problem.out_block)
            return te.compute(
                shape, lambda n, o, h, w, v: acc[n, o // blocks, o % blocks, 0, h * width + w, v], name=RESULT
            )

        placeholders, outputs = task.build(anchor, {index: packed_shape(problem, problem.out_block, blocks)})
        schedule = new_schedule(task, placeholders, outputs)
        schedule_copies(schedule, parallel=True)
        schedule_pixels(schedule, problem, blocks, int(config["tile_pixels"]), int(config["chunk_pixels"]), str(config["outer"]))
        return Kernel(func=schedule.mod["main"], pack={index: pack_weight(problem, problem.out_block, blocks)})


def schedule_pixels(
    schedule: Schedule, problem: ConvProblem, blocks: int, tile: int, chunk: int, outer: str
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
    schedule.compute_at(acc, t, preserve_unit_loops=True)
    cut_tail(schedule, t)
    schedule.parallel(schedule.fuse(*order))
    accumulate_in_registers(schedule, reduction=4)
