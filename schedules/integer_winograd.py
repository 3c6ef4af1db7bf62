"""3x3 stride-1 convolution of bytes by Winograd's minimal filtering, exact, with operands of 16 bits.

Pairs of int16 are multiplied (`dot_intrinsics.pair_product`), 2.25 (output tiles of 2 x 2) or 4 (4 x 4) times fewer of
them than a direct convolution has; `integer_winograd_stages` tells why the sums are exact. That pays most on machines
without an instruction for quads of bytes. With one (VNNI) a product of pairs costs twice the direct convolution's, and
tiles of 4 x 4 still pay: 1.1 to 1.75 times faster on Zen 4 from 32 channels on. A chunk of tile rows is
transformed at once; products, output transform and epilogue follow for one tile of channels after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import te

from edgeir.schedules.conv_problem import ConvProblem, conv_problem
from edgeir.schedules.conv_stages import check_config, kernel_function, new_schedule
from edgeir.schedules.conv_winograd import STREAM_BYTES_PER_CYCLE, tiles
from edgeir.schedules.dot_intrinsics import QUAD, DotProduct, dot_product, pair_product
from edgeir.schedules.dot_loops import with_dot_products
from edgeir.schedules.integer_narrowing import with_packed_stores
from edgeir.schedules.integer_tile import choose_dot_tile, dot_total_cycles
from edgeir.schedules.integer_winograd_loops import schedule_winograd
from edgeir.schedules.integer_winograd_stages import (
    SHIFT,
    channel_chunk,
    chunks,
    pack_weight,
    packed_shape,
    transformed,
)
from edgeir.schedules.register_tile import RegisterTile, divisors
from edgeir.schedules.task import Kernel, PackedShape, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

MEMORY_BYTES_PER_CYCLE = 3.0
"""Bytes per cycle that one core reads from beyond all caches."""


LARGEST_WEIGHTS = 2 * 2**20
"""Bytes of transformed weights for which a fast direct convolution is given up: they are eight times those of int8."""


@dataclass(frozen=True)
class Rates:
    """What the steps around the products cost on a class of machines.

    Attributes:
        transform: cycles for a vector of a transformed tile, in both passes of its transform.
        stream: bytes per cycle that one core reads from beyond its L2 cache.
        resident: share of the L2 cache that a chunk's transformed inputs may fill.
    """

    transform: float
    stream: float
    resident: float


PLAIN = Rates(transform=12.0, stream=STREAM_BYTES_PER_CYCLE, resident=1 / 3)
"""Machines without VNNI: about four additions and two memory accesses a vector in each pass."""

VNNI = Rates(transform=5.0, stream=12.0, resident=1 / 2)
"""Chosen by the times of layers of 16 to 512 channels on Zen 4, on the side of the direct convolution where they are
close. Not measured on other machines with VNNI."""


class IntegerWinograd:
    """Dense 3x3 `conv_integer` with stride 1, blocked input and output."""

    name = "integer_winograd"

    def match(self, task: Task, target: Target) -> bool:
        """8-bit convolutions with constant weights without zero points whose sums are exact."""
        dot = pair_product(target)
        if dot is None or task.anchor != "conv_integer" or task.integers is None or len(task.outputs) != 1:
            return False
        if task.outputs[0].shape != task.anchor_output.shape or task.anchor_inputs[1].dtype != "int8":
            return False
        problem = conv_problem(task)
        fits = (
            problem.kernel == (3, 3)
            and problem.strides == problem.dilations == (1, 1)
            and problem.groups == 1
            and problem.in_block in (dot.lanes, 2 * dot.lanes)
            and problem.out_block == dot.lanes
            and problem.weight_operand is not None
        )
        return fits and bool(_exact(task))

    def faster(self, task: Task, target: Target) -> bool:
        """Whether fewer cycles are estimated than for a direct convolution, or the target has none for the operands."""
        problem, integers, dot = conv_problem(task), task.integers, _required_dot(target)
        assert integers is not None
        direct = dot_product(target, task.anchor_inputs[0].dtype, integers)
        if direct is None:
            return True
        sizes = _sizes(task, dot)
        # With VNNI tiles of 2 x 2 save an eighth of the products' time, less than their transforms take.
        if dot.instructions == 1 and (sizes == [2] or _weight_bytes(problem, dot, sizes[-1]) > LARGEST_WEIGHTS):
            return False
        return best_plan(problem, dot, sizes, target)[0] < direct_cycles(problem, direct, target)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Output tile, tiles and channel blocks of a register tile, tile rows of a chunk, and what runs in parallel."""
        problem = conv_problem(task)
        return {
            "m": _exact(task),
            "tile_pixels": list(range(1, target.vector_registers + 1)),
            "blocks": divisors(problem.out_blocks, 8),
            "chunk_rows": list(range(1, tiles(problem, 2)[0] + 1)),
            "parallel": ["chunks", "stages"],
        }

    def default(self, task: Task, target: Target) -> Config:
        """The output tile and chunk with the fewest estimated cycles."""
        dot, problem = _required_dot(target), conv_problem(task)
        _, m, chunk = best_plan(problem, dot, _sizes(task, dot), target)
        rows, columns = tiles(problem, m)
        tile = choose_dot_tile(1, chunk * columns, problem.out_blocks, dot, target)
        pieces, channel_tiles = problem.batch * -(-rows // chunk), problem.out_blocks // tile.blocks
        return {
            "m": m,
            "tile_pixels": tile.columns,
            "blocks": tile.blocks,
            "chunk_rows": chunk,
            "parallel": "chunks" if pieces >= min(4 * target.cores, channel_tiles) else "stages",
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace is the bordered input, and transformed tiles and products of a chunk."""
        check_config(self.name, config, self.space(task, target))
        dot, problem, integers = _required_dot(target), conv_problem(task), task.integers
        index = problem.weight_operand
        assert index is not None and integers is not None
        m, blocks = int(config["m"]), int(config["blocks"])
        rows, columns = tiles(problem, m)
        chunk = min(int(config["chunk_rows"]), rows)

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            return transformed(problem, dot, m, blocks, chunk, inputs[0], inputs[1], integers.left_zero)

        placeholders, outputs = task.build(
            anchor, {index: PackedShape(packed_shape(problem, dot, m, blocks), dot.weight)}
        )
        schedule = new_schedule(task, placeholders, outputs)
        by_chunks = config["parallel"] == "chunks"
        schedule_winograd(schedule, m, problem.in_block, blocks, int(config["tile_pixels"]), chunk, by_chunks)
        channels = chunks(problem, dot) * channel_chunk(problem, dot)
        inputs = 2 * (m + 2) ** 2 * chunk * columns * channels * (target.cores if by_chunks else 1)
        products = 4 * (m + 2) ** 2 * chunk * columns * blocks * dot.lanes * target.cores
        func = with_dot_products(kernel_function(schedule, problem, target), dot)
        return Kernel(
            func=with_packed_stores(func, target, integers.floats_fit),
            pack={index: pack_weight(problem, dot, m, blocks)},
            workspace_bytes=problem.batch * channels * (rows * m + 2) * (columns * m + 2) + inputs + products,
        )


def _exact(task: Task) -> list[int]:
    """The output tiles whose results are exact."""
    headroom = 0 if task.integers is None else task.integers.headroom
    return [m for m, bits in SHIFT.items() if bits <= headroom]


def _sizes(task: Task, dot: DotProduct) -> list[int]:
    """The output tiles to choose from: with VNNI the largest that is exact, otherwise all that are."""
    return _exact(task)[-1:] if dot.instructions == 1 else _exact(task)


def _weight_bytes(problem: ConvProblem, dot: DotProduct, m: int) -> int:
    """Bytes of the transformed weights for output tiles of m x m."""
    return 2 * (m + 2) ** 2 * chunks(problem, dot) * channel_chunk(problem, dot) * problem.out_channels


def _required_dot(target: Target) -> DotProduct:
    dot = pair_product(target)
    assert dot is not None
    return dot


def direct_cycles(problem: ConvProblem, dot: DotProduct, target: Target) -> float:
    """Estimated cycles of a direct convolution with the inner product `dot`."""
    rows, columns = problem.out_spatial
    tile = choose_dot_tile(rows, columns, problem.out_blocks, dot, target, max_rows=2)
    step = dot_total_cycles(rows, columns, problem.out_blocks, tile, dot, target)
    return problem.batch * step * -(-problem.in_channels // QUAD) * 9


def winograd_cycles(
    problem: ConvProblem, dot: DotProduct, m: int, chunk: int, tile: RegisterTile, target: Target
) -> float:
    """Estimated cycles with output tiles of m x m and chunks of `chunk` tile rows.

    Counts the products, or the streaming of their weights for each chunk if that takes longer; the transforms; and the
    traffic of transformed inputs, which are read for each tile of channels, where a chunk's do not stay in the L2 cache
    beside the weights that pass through it.
    """
    rows, columns = tiles(problem, m)
    cache, rates = target.l2_bytes or 8 * target.l1_bytes, VNNI if dot.instructions == 1 else PLAIN
    t2, passes = (m + 2) ** 2, -(-rows // chunk)
    in_channels = chunks(problem, dot) * channel_chunk(problem, dot)
    step = dot_total_cycles(1, chunk * columns, problem.out_blocks, tile, dot, target)
    products = passes * t2 * in_channels / dot.group * step
    weight_bytes = _weight_bytes(problem, dot, m)
    if weight_bytes > cache // 2:
        rate = MEMORY_BYTES_PER_CYCLE if weight_bytes > target.l3_bytes else rates.stream
        products = max(products, passes * weight_bytes / rate)
    input_bytes = 2 * t2 * chunk * columns * in_channels
    readings = problem.out_blocks // tile.blocks
    traffic = passes * readings * input_bytes / rates.stream if input_bytes > cache * rates.resident else 0.0
    vectors = passes * chunk * columns * (in_channels / (2 * dot.lanes) + problem.out_blocks)
    return problem.batch * (products + traffic + rates.transform * t2 * vectors)


def best_plan(problem: ConvProblem, dot: DotProduct, sizes: Sequence[int], target: Target) -> tuple[float, int, int]:
    """The fewest estimated cycles, with the output tile out of `sizes` and the tile rows of a chunk that give them.

    A larger chunk must be faster by more than rounding: fewer chunks are fewer pieces for the threads.
    """
    best = (math.inf, 0, 0)
    for m in sizes:
        rows, columns = tiles(problem, m)
        for chunk in sorted({-(-rows // passes) for passes in range(1, rows + 1)}):
            tile = choose_dot_tile(1, chunk * columns, problem.out_blocks, dot, target)
            cycles = winograd_cycles(problem, dot, m, chunk, tile, target)
            if cycles < best[0] * (1 - 1e-9):
                best = (cycles, m, chunk)
    return best
