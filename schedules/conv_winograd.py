"""3x3 stride-1 convolution by Winograd's minimal filtering, F(2x2, 3x3) and F(4x4, 3x3), in blocked layout.

For an output tile of m x m pixels and its input tile d of t x t, t = m + 2 (Lavin and Gray, "Fast algorithms for
convolutional neural networks", CVPR 2016):

    U = G g G^T (packed at compile time)    V = B^T d B    M[e] = sum over channels of U[e] * V[e]    Y = A^T M A

The products M are t * t matrix products over all tiles: 2.25 (m = 2) or 4 (m = 4) times fewer multiplications than a
direct convolution. The sums are rounded differently: on unit-variance data F(4x4) differs from float64 by about 1e-5,
a direct convolution by about 3e-6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

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
)
from edgeir.schedules.narrow_block import mark_sums, mark_whole, only_halves, used_lanes, with_narrow_blocks
from edgeir.schedules.register_tile import RegisterTile, choose_tile, divisors, total_cycles, vectors_per_block
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.winograd_transforms import (
    chosen,
    input_transform,
    output_transform,
    pack_weight,
    packed_shape,
)
from edgeir.targets.target import Target

INPUT_ROWS, INPUT_TILES = "winograd_input_rows", "winograd_input"
PRODUCTS, OUTPUT_ROWS = ACCUMULATE, "winograd_output_rows"

STREAM_BYTES_PER_CYCLE = 6.0
"""Bytes per cycle that one core reads from beyond its L2 cache; used to judge whether Winograd's larger weights pay."""

WIDE_VECTOR_BITS = 512
"""Vectors of so many bits are transformed a row of a tile at a time by default: 1 % faster on Zen 4, where with AVX2
either way is faster on some layers by as much."""

SURE_LOSS = 1.5
"""Times a direct convolution's estimated cycles: beyond it the search does not try Winograd either."""


def tiles(problem: ConvProblem, m: int) -> tuple[int, int]:
    """Rows and columns of output tiles."""
    return -(-problem.out_spatial[0] // m), -(-problem.out_spatial[1] // m)


def padded_input(problem: ConvProblem, m: int, x: te.Tensor) -> te.Tensor:
    """The input with zeros around it, so large that every tile lies within it."""
    rows, columns = tiles(problem, m)
    height, width = problem.in_spatial
    top, left = problem.pads_begin
    shape = (problem.batch, problem.in_blocks, rows * m + 2, columns * m + 2, problem.in_block)

    def element(n: Any, k: Any, h: Any, w: Any, v: Any) -> Any:
        inside = []
        for place, begin, extent, whole in ((h, top, height, shape[2]), (w, left, width, shape[3])):
            if begin:
                inside.append(tirx.likely(place >= begin))
            if whole > begin + extent:
                inside.append(tirx.likely(place < begin + extent))
        value = x(n, k, h - top, w - left, v)
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0.0, "float32")) if inside else value

    return stage(shape, element, PAD)


def transformed(problem: ConvProblem, m: int, blocks: int, x: te.Tensor, u: te.Tensor) -> te.Tensor:
    """The convolution through Winograd's transforms, in the output's layout."""
    t, (rows, columns) = m + 2, tiles(problem, m)
    n_tiles, batch, block = rows * columns, problem.batch, problem.out_block
    padded = padded_input(problem, m, x)
    row_shape = (batch, problem.in_blocks, n_tiles, t, t, problem.in_block)

    def row(n: Any, k: Any, p: Any, a: Any, c: Any, v: Any) -> Any:
        top, left = p // columns * m, p % columns * m
        return chosen(input_transform(m, [padded(n, k, top + r, left + c, v) for r in range(t)]), a)

    half = stage(row_shape, row, INPUT_ROWS)
    v_tiles = stage(
        (batch, t * t, problem.in_blocks, n_tiles, problem.in_block),
        lambda n, e, k, p, v: chosen(input_transform(m, [half(n, k, p, e // t, c, v) for c in range(t)]), e % t),
        INPUT_TILES,
    )
    k, i = reduce_axis(problem.in_blocks, "k"), reduce_axis(problem.in_block, "i")
    shape = packed_shape(problem, m, blocks)
    products = stage(
        (batch, t * t, shape[1], blocks, n_tiles, block),
        lambda n, e, o, b, p, v: te.sum(v_tiles(n, e, k, p, i) * u(e, o, k, i, b, v), axis=[k, i]),
        PRODUCTS,
    )

    def out_row(n: Any, o: Any, p: Any, a: Any, c: Any, v: Any) -> Any:
        values = [products(n, r * t + c, o // blocks, o % blocks, p, v) for r in range(t)]
        return chosen(output_transform(m, values), a)

    out_rows = stage((batch, problem.out_blocks, n_tiles, m, t, block), out_row, OUTPUT_ROWS)

    def result(n: Any, o: Any, h: Any, w: Any, v: Any) -> Any:
        place = (h // m * columns + w // m, h % m)
        return chosen(output_transform(m, [out_rows(n, o, *place, c, v) for c in range(t)]), w % m)

    return stage((batch, problem.out_blocks, *problem.out_spatial, block), result, RESULT)


class ConvWinograd:
    """3x3 convolution with stride 1, dense, blocked input and output, where Winograd's algorithm should pay."""

    name = "conv_winograd"

    def match(self, task: Task, target: Target) -> bool:
        """Float32 dense 3x3 stride-1 convolutions with constant weights, unless they surely lose."""
        if not is_plain_float_conv(task):
            return False
        problem = conv_problem(task)
        shape_fits = (
            problem.kernel == (3, 3)
            and problem.strides == problem.dilations == (1, 1)
            and problem.groups == 1
            and problem.in_block > 1
            and problem.out_block > 1
            and problem.weight_operand is not None
        )
        return shape_fits and best_plan(problem, target)[0] < SURE_LOSS * direct_cycles(problem, target)

    def faster(self, task: Task, target: Target) -> bool:
        """Whether a fifth or more is expected to be gained: the estimate errs, and a direct convolution is exacter."""
        problem = conv_problem(task)
        return best_plan(problem, target)[0] < 0.8 * direct_cycles(problem, target)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Output tile, register tile, tile rows of a chunk, rows transformed at once, and what runs in parallel."""
        problem = conv_problem(task)
        return {
            "m": [2, 4],
            "tile_pixels": list(range(1, target.vector_registers + 1)),
            "blocks": divisors(problem.out_blocks, 8),
            "chunk_rows": list(range(1, tiles(problem, 2)[0] + 1)),
            "rows": ["all", "single"],
            "parallel": ["chunks", "stages"],
        }

    def default(self, task: Task, target: Target) -> Config:
        """The output tile and chunk with the fewest estimated cycles."""
        problem = conv_problem(task)
        _, m, chunk = best_plan(problem, target)
        rows, columns = tiles(problem, m)
        tile, _ = product_tile(problem, chunk * columns, target)
        pieces = problem.batch * -(-rows // chunk)
        return {
            "m": m,
            "tile_pixels": tile.columns,
            "blocks": tile.blocks,
            "chunk_rows": chunk,
            "rows": "single" if target.vector_bits >= WIDE_VECTOR_BITS else "all",
            "parallel": "chunks" if pieces >= 4 * target.cores else "stages",
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace is the padded input and the transformed tiles of a chunk."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        index = problem.weight_operand
        assert index is not None
        m, blocks = int(config["m"]), int(config["blocks"])
        rows, columns = tiles(problem, m)
        chunk = min(int(config["chunk_rows"]), rows)

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            return transformed(problem, m, blocks, inputs[0], inputs[1])

        placeholders, outputs = task.build(anchor, {index: packed_shape(problem, m, blocks)})
        schedule = new_schedule(task, placeholders, outputs)
        by_chunks = config["parallel"] == "chunks"
        schedule_winograd(schedule, m, chunk, str(config["rows"]), by_chunks)
        lanes = used_lanes(problem, target)
        narrow = lanes < problem.out_block and blocks == problem.out_blocks
        halves = only_halves(blocks, target)
        schedule_products(schedule, int(config["tile_pixels"]), by_chunks, lanes if narrow else 0, halves)
        tile_bytes = 4 * (m + 2) ** 2 * chunk * columns * (target.cores if by_chunks else 1)
        channels = problem.in_blocks * problem.in_block + problem.out_blocks * problem.out_block
        padded = 4 * problem.batch * problem.in_blocks * problem.in_block * (rows * m + 2) * (columns * m + 2)
        func = kernel_function(schedule, problem, target)
        return Kernel(
            func=with_narrow_blocks(func) if narrow else func,
            pack={index: pack_weight(problem, m, blocks)},
            workspace_bytes=padded + tile_bytes * channels,
        )


def direct_cycles(problem: ConvProblem, target: Target) -> float:
    """Estimated cycles of a direct convolution."""
    vectors = vectors_per_block(problem.out_block, target)
    rows, columns = problem.out_spatial
    tile = choose_tile(rows, columns, problem.out_blocks, problem.out_block, target)
    step = total_cycles(rows, columns, problem.out_blocks, tile, vectors, target)
    return problem.batch * step * problem.in_channels * 9


def product_tile(problem: ConvProblem, columns: int, target: Target) -> tuple[RegisterTile, float]:
    """The tile with the fewest cycles for `columns` tiles, and its cycles for one step of the sums of all of them.

    It is one of half vectors, twice as many in a cycle, where these save the last block's unused half.
    """
    blocks, lanes = problem.out_blocks, used_lanes(problem, target)
    if lanes == problem.out_block or not only_halves(blocks, target):
        tile = choose_tile(1, columns, blocks, problem.out_block, target)
        return tile, total_cycles(1, columns, blocks, tile, vectors_per_block(problem.out_block, target), target)
    halves, parts = replace(target, vector_bits=32 * lanes, fma_per_cycle=2 * target.fma_per_cycle), 2 * blocks - 1
    tile = choose_tile(1, columns, 1, parts * lanes, halves)
    return replace(tile, blocks=blocks), total_cycles(1, columns, 1, tile, parts, halves)


def winograd_cycles(problem: ConvProblem, m: int, chunk: int, target: Target) -> float:
    """Estimated cycles with output tiles of m x m and chunks of `chunk` tile rows.

    Counts the products, or the streaming of their weights for each chunk if that takes longer; the transforms; and the
    traffic of transformed tiles where a chunk's exceed half of the L2 cache.
    """
    rows, columns = tiles(problem, m)
    cache = target.l2_bytes or 8 * target.l1_bytes
    t2, channels = (m + 2) ** 2, problem.in_channels + problem.out_channels
    passes = -(-rows // chunk)
    _, step = product_tile(problem, chunk * columns, target)
    products = passes * t2 * problem.in_channels * step
    weight_bytes = 4 * t2 * problem.in_channels * problem.out_channels
    if weight_bytes > cache // 2:
        products = max(products, passes * weight_bytes / STREAM_BYTES_PER_CYCLE)
    tile_bytes = 4 * t2 * chunk * columns * channels
    traffic = passes * 2 * tile_bytes / STREAM_BYTES_PER_CYCLE if tile_bytes > cache // 2 else 0.0
    # Both transforms: about four additions and two memory accesses for each of the t * t elements, in two passes.
    transforms = 12.0 * t2 * passes * chunk * columns * channels / target.lanes(32)
    return problem.batch * (products + traffic + transforms)


def best_plan(problem: ConvProblem, target: Target) -> tuple[float, int, int]:
    """The fewest estimated cycles, with the output tile m and the tile rows of a chunk that give them."""
    plans = []
    for m in (2, 4):
        rows = tiles(problem, m)[0]
        for chunk in sorted({-(-rows // passes) for passes in range(1, rows + 1)}):
            plans.append((winograd_cycles(problem, m, chunk, target), m, chunk))
    return min(plans)


def schedule_winograd(schedule: TirSchedule, m: int, chunk: int, rows: str, by_chunks: bool) -> None:
    """Chunks of tile rows; in each: input transform, products, output transform.

    Args:
        schedule: of the stages of `transformed`.
        m: rows and columns of an output tile.
        chunk: tile rows of a chunk.
        rows: how many rows of a tile are transformed at once: `all` or a `single` one.
        by_chunks: whether chunks run in parallel, or else the stages of a chunk.
    """
    out = inline_epilogue(schedule, keep=(PAD, INPUT_ROWS, INPUT_TILES, PRODUCTS, OUTPUT_ROWS))
    blocks_of = {name: schedule.get_sblock(name) for name in (PAD, INPUT_ROWS, INPUT_TILES, PRODUCTS, OUTPUT_ROWS)}
    for block in producers_of_accumulation(schedule):
        if block_name(schedule, block) not in (INPUT_ROWS, INPUT_TILES):
            loops = schedule.get_loops(block)
            schedule_elementwise(schedule, loops, parallel=True)
            if block_name(schedule, block) == PAD:
                cut_tail(schedule, loops[-2])
    n, o, h, w, v = schedule.get_loops(out)
    piece, row, a = schedule.split(h, [None, chunk, m])
    column, c = schedule.split(w, [None, m])
    schedule.reorder(n, piece, o, row, column, a, c, v)
    place = schedule.fuse(n, piece)
    schedule.unroll(a)
    schedule.unroll(c)
    schedule.vectorize(v)
    schedule.compute_at(blocks_of[OUTPUT_ROWS], column if rows == "all" else a, preserve_unit_loops=True)
    for name in (PRODUCTS, INPUT_TILES):
        schedule.compute_at(blocks_of[name], place, preserve_unit_loops=True)
    if by_chunks:
        schedule.parallel(place)
    else:
        schedule.parallel(schedule.fuse(o, row))
    unroll_inner(schedule, blocks_of[OUTPUT_ROWS])

    *_, e, k, p, i = schedule.get_loops(blocks_of[INPUT_TILES])
    a, c = schedule.split(e, [None, m + 2])
    schedule.reorder(k, p, a, c, i)
    schedule.unroll(a)
    schedule.unroll(c)
    schedule.vectorize(i)
    schedule.compute_at(blocks_of[INPUT_ROWS], p if rows == "all" else a, preserve_unit_loops=True)
    if not by_chunks:
        schedule.parallel(schedule.fuse(k, p))
    unroll_inner(schedule, blocks_of[INPUT_ROWS])


def schedule_products(schedule: TirSchedule, tile: int, by_chunks: bool, lanes: int, halves: bool) -> None:
    """Register tiles of tiles x channel blocks, their sums stored when they are complete.

    Args:
        schedule: where the products are computed for a chunk.
        tile: tiles of a register tile.
        by_chunks: whether chunks run in parallel, or else the products of a chunk.
        lanes: of the last channel block that are computed; 0 for all.
        halves: whether those of the other blocks are computed so many at a time.
    """
    products = schedule.get_sblock(PRODUCTS)
    store = schedule.cache_write(products, 0, "global")
    *_, e, o, b, p, v, k, i = schedule.get_loops(products)
    p, pixel = schedule.split(p, [None, tile])
    schedule.reorder(e, o, p, k, i, pixel, b, v)
    schedule.reverse_compute_at(store, p, preserve_unit_loops=True)
    cut_tail(schedule, p)
    if not by_chunks:
        schedule.parallel(schedule.fuse(e, o))
    for block in (products, store):
        unroll_inner(schedule, block)
    init = schedule.decompose_reduction(products, k)
    unroll_inner(schedule, init)
    if lanes:
        mark_sums(schedule, schedule.get_loops(products)[-2], lanes, halves)
        for block in (store, init):
            mark_whole(schedule, schedule.get_loops(block)[-2], lanes)


def unroll_inner(schedule: TirSchedule, block: Any) -> None:
    """Unrolls the last two loops before the vector loop; the constants of a transform then fold."""
    first, second, vector = schedule.get_loops(block)[-3:]
    schedule.unroll(first)
    schedule.unroll(second)
    schedule.vectorize(vector)
