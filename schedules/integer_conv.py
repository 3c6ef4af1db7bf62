"""Convolution of bytes: a register tile of pixels x channel vectors, four input channels at a time.

    acc[o, p, v] += Σ_q x[k, p * stride + kernel, 4j + q] * w[o, k, kernel, j, v, q]      q = 0 … 3

One quad of input channels is broadcast against registers of packed weights (`dot_intrinsics`); the sums of 32 bits,
bias and zero point, and the whole epilogue down to the bytes that are stored, stay on the register tile. Tiles are cut
from rows, or from flattened pixels (always for 1x1 kernels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tvm import te

from edgeir.schedules.conv_dense import result_of_pixels, result_of_rows, schedule_pixels, schedule_rows
from edgeir.schedules.conv_direct import MOST_FLAT_PIXELS, outer_loop
from edgeir.schedules.conv_pointwise import SMALLEST_CHUNK
from edgeir.schedules.conv_problem import ConvProblem, conv_problem
from edgeir.schedules.conv_stages import check_config, kernel_function, new_schedule
from edgeir.schedules.dot_intrinsics import QUAD, DotProduct, dot_product
from edgeir.schedules.dot_loops import with_dot_products
from edgeir.schedules.integer_copies import input_workspace_bytes, schedule_input
from edgeir.schedules.integer_decoding import PackedCodes, schedule_decoding
from edgeir.schedules.integer_loops import dot_tile
from edgeir.schedules.integer_narrowing import with_packed_stores
from edgeir.schedules.integer_stages import (
    accumulate_pixels,
    accumulate_rows,
    pack_weight,
    packed_shape,
    quads_input,
)
from edgeir.schedules.integer_tile import choose_dot_tile, dot_total_cycles
from edgeir.schedules.narrowing_intrinsics import GROUPS, narrowing
from edgeir.schedules.register_tile import RegisterTile, divisors
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

_SHORT_REDUCTION = 64
"""Steps up to which the stores of a tile take a notable part of the time."""


class IntegerConv:
    """2-D convolution of bytes with constant weights without a zero point, whole quads and blocks per group."""

    name = "integer_conv"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the target has an inner product for the operands, and groups consist of whole quads and vectors."""
        dot = _dot_product(task, target)
        if dot is None or len(task.outputs) != 1 or task.outputs[0].shape != task.anchor_output.shape:
            return False
        problem = conv_problem(task)
        if problem.rank != 2 or problem.in_block % QUAD:
            return False
        if problem.weight_operand is None and task.compressed is None:
            return False
        if problem.out_block not in (0, dot.lanes):
            return False
        return problem.groups == 1 or (problem.in_group % QUAD == 0 and problem.out_group % dot.lanes == 0)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """How pixels are walked, rows and columns of a tile, its channel blocks, pixels of a chunk, the outer loop."""
        dot, problem = _required_dot(task, target), conv_problem(task)
        rows, columns = problem.out_spatial
        # A flat tile goes on from one row to the next.
        most = problem.pixels if problem.out_block else max(columns, 8)
        return {
            "walk": ["rows", "flat"] if problem.out_block else ["rows"],
            "tile_rows": [n for n in (1, 2, 4) if n <= rows],
            "tile_columns": list(range(1, min(problem.pixels, most, target.vector_registers) + 1)),
            "blocks": divisors(-(-problem.out_group // dot.lanes), 8),
            "chunk_pixels": divisors(problem.pixels, problem.pixels),
            "outer": ["channels", "pixels"],
        }

    def default(self, task: Task, target: Target) -> Config:
        """The walk, chunk and tile with the fewest cycles."""
        dot, problem = _required_dot(task, target), conv_problem(task)
        rows, columns = problem.out_spatial
        blocks = -(-problem.out_group // dot.lanes)
        walk, chunk = "rows", problem.pixels
        tile = choose_dot_tile(rows, columns, blocks, dot, target, max_rows=2)
        if problem.out_block:
            pointwise = _is_pointwise(problem)
            flat, flat_chunk, flat_cycles = _flat_tile(problem, blocks, dot, target)
            if pointwise or flat_cycles < 0.98 * dot_total_cycles(rows, columns, blocks, tile, dot, target):
                walk, tile, chunk = "flat", flat, flat_chunk
        tile = self._packing_tile(task, target, tile, chunk if walk == "flat" else columns)
        return {
            "walk": walk,
            "tile_rows": tile.rows,
            "tile_columns": tile.columns,
            "blocks": tile.blocks,
            "chunk_pixels": chunk,
            "outer": outer_loop(problem, target),
        }

    def _packing_tile(self, task: Task, target: Target, tile: RegisterTile, columns: int) -> RegisterTile:
        """The tile that packs its bytes best if the reduction is short, so that the epilogue matters.

        While one tile is stored the next is already summed if both are small: a group of pixels that are packed
        together, and as many blocks as keep the sums from waiting for one another.
        """
        dot, problem = _required_dot(task, target), conv_problem(task)
        steps = math.prod(packed_shape(problem, dot, 1)[1:5])
        packs = task.outputs[0].dtype == "uint8" and narrowing(target, dot.lanes) is not None
        if not packs or not problem.out_block or steps > _SHORT_REDUCTION or tile.rows > 1 or columns < GROUPS[0]:
            return tile
        blocks = next((n for n in divisors(-(-problem.out_group // dot.lanes), 3) if n > 1), 1)
        pixels = GROUPS[0] * (1 if blocks > 1 or columns < 2 * GROUPS[0] else 2)
        return RegisterTile(1, pixels, blocks)

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace is the bordered or interleaved input."""
        check_config(self.name, config, self.space(task, target))
        dot, problem = _required_dot(task, target), conv_problem(task)
        integers = task.integers
        assert integers is not None
        blocks, flat = int(config["blocks"]), config["walk"] == "flat"
        codes = _codes(task, problem, dot, blocks)

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            x, w = quads_input(problem, inputs[0], integers.left_zero), inputs[1]
            w = w if codes is None else codes.decoded(w)
            if flat:
                return result_of_pixels(problem, dot.lanes, blocks, accumulate_pixels(problem, dot, blocks, x, w))
            return result_of_rows(problem, dot.lanes, blocks, accumulate_rows(problem, dot, blocks, x, w))

        if codes is None:
            index = problem.weight_operand
            assert index is not None
            placeholders, outputs = task.build(anchor, {index: packed_shape(problem, dot, blocks)})
            pack = pack_weight(problem, dot, blocks)
        else:
            assert task.compressed is not None
            index, pack = task.compressed.operand, codes.pack()
            placeholders, outputs = task.compressed.build(anchor, codes.shape, codes.view())
        schedule = new_schedule(task, placeholders, outputs)
        if codes is not None:
            schedule_decoding(schedule, dot)
        schedule_input(schedule, problem)
        outer, columns = str(config["outer"]), int(config["tile_columns"])
        if flat:
            schedule_pixels(schedule, problem, blocks, columns, int(config["chunk_pixels"]), outer, dot_tile(dot))
        else:
            schedule_rows(
                schedule, problem, dot.lanes, blocks, (int(config["tile_rows"]), columns), outer, dot_tile(dot)
            )
        decoded = 0 if codes is None else math.prod(packed_shape(problem, dot, blocks))
        summed = with_dot_products(kernel_function(schedule, problem, target), dot)
        return Kernel(
            func=with_packed_stores(summed, target, integers.floats_fit),
            pack={index: pack},
            workspace_bytes=input_workspace_bytes(problem) + decoded,
        )


def _codes(task: Task, problem: ConvProblem, dot: DotProduct, blocks: int) -> PackedCodes | None:
    """How the weight is stored if the kernel decodes it."""
    if task.compressed is None:
        return None
    dtype = task.operands[task.compressed.operand].spec.dtype
    return PackedCodes(problem, dot, blocks, task.compressed, dtype)


def _dot_product(task: Task, target: Target) -> DotProduct | None:
    if task.anchor != "conv_integer" or task.integers is None or task.anchor_inputs[1].dtype != "int8":
        return None
    return dot_product(target, task.anchor_inputs[0].dtype, task.integers)


def _required_dot(task: Task, target: Target) -> DotProduct:
    dot = _dot_product(task, target)
    assert dot is not None
    return dot


def _is_pointwise(problem: ConvProblem) -> bool:
    return problem.kernel == (1, 1) and problem.strides == (1, 1) and not problem.padded and problem.in_block > 0


def _flat_tile(problem: ConvProblem, blocks: int, dot: DotProduct, target: Target) -> tuple[RegisterTile, int, float]:
    """The tile and the pixels of a chunk with the fewest cycles, and these.

    A chunk of a 1x1 convolution fits half of the second-level cache with all its channels; of another convolution,
    whose tile keeps an address for every pixel, chunks are cut for the threads.
    """
    cache = (target.l2_bytes or target.l1_bytes) // 2
    pointwise = _is_pointwise(problem)
    most = 64 if pointwise else MOST_FLAT_PIXELS
    best, best_chunk, best_cycles, best_weighed = RegisterTile(1, 1, 1), problem.pixels, math.inf, math.inf
    for chunk in reversed(divisors(problem.pixels, problem.pixels)):
        if chunk < problem.pixels and chunk < SMALLEST_CHUNK:
            break
        tile = choose_dot_tile(1, chunk, blocks, dot, target, max_columns=most)
        chunks = problem.pixels // chunk
        cycles = chunks * dot_total_cycles(1, chunk, blocks, tile, dot, target)
        pieces = problem.batch * problem.groups * chunks * (blocks // tile.blocks)
        fits = not pointwise or problem.in_group * chunk <= cache
        # A chunk that spills from the cache, or too few pieces for the threads, costs far more than a ragged tile.
        weighed = cycles * (1.0 if fits else 1.3) * (1.0 if pieces >= 4 * target.cores or target.cores == 1 else 1.1)
        if weighed < best_weighed:
            best, best_chunk, best_cycles, best_weighed = tile, chunk, cycles, weighed
    return best, best_chunk, best_cycles
