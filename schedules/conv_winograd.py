"""3x3 stride-1 convolution by Winograd's minimal filtering, F(2x2, 3x3) and F(4x4, 3x3), in blocked layout.

For an output tile of m x m pixels and its input tile d of t x t, t = m + 2 (Lavin and Gray, "Fast algorithms for
convolutional neural networks", CVPR 2016):

    U = G g G^T (packed at compile time)    V = B^T d B    M[e] = sum over channels of U[e] * V[e]    Y = A^T M A

The products M are t * t matrix products over all tiles: 2.25 (m = 2) or 4 (m = 4) times fewer multiplications than a
direct convolution. The sums are rounded differently: on unit-variance data F(4x4) differs from float64 by about 1e-5,
a direct convolution by about 3e-6.
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
)
from edgeir.schedules.register_tile import choose_tile, divisors, total_cycles, vectors_per_block
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

INPUT_ROWS, INPUT_TILES = "winograd_input_rows", "winograd_input"
PRODUCTS, OUTPUT_ROWS = ACCUMULATE, "winograd_output_rows"

BT = {
    2: [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    4: [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
}
G = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}
AT = {
    2: [[1, 1, 1, 0], [0, 1, -1, -1]],
    4: [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
}
"""The transforms for the interpolation points 0, 1, -1 (and 2, -2), infinity."""

STREAM_BYTES_PER_CYCLE = 6.0
"""Bytes per cycle that one core reads from beyond its L2 cache; used to judge whether Winograd's larger weights pay."""


def tiles(problem: ConvProblem, m: int) -> tuple[int, int]:
    """Rows and columns of output tiles."""
    return -(-problem.out_spatial[0] // m), -(-problem.out_spatial[1] // m)


def packed_shape(problem: ConvProblem, m: int, blocks: int) -> tuple[int, ...]:
    """Shape of the packed weight: (t * t, O tiles, I blocks, I, blocks, block)."""
    o = -(-problem.out_channels // (problem.out_block * blocks))
    return ((m + 2) ** 2, o, problem.in_blocks, problem.in_block, blocks, problem.out_block)


def pack_weight(problem: ConvProblem, m: int, blocks: int) -> Callable[[np.ndarray], np.ndarray]:
    """How OIHW weights become transformed and packed; computed in float64."""
    shape = packed_shape(problem, m, blocks)

    def pack(weight: np.ndarray) -> np.ndarray:
        e, o, k, i, _, block = shape
        g = np.array(G[m])
        transformed = np.einsum("xr,oirs,ys->xyoi", g, weight.astype(np.float64), g).reshape(e, *weight.shape[:2])
        full = np.zeros((e, o * blocks * block, k * i), weight.dtype)
        full[:, : weight.shape[0], : weight.shape[1]] = transformed
        return np.ascontiguousarray(full.reshape(e, o, blocks, block, k, i).transpose(0, 1, 4, 5, 2, 3))

    return pack


def combination(rows: Sequence[Sequence[float]], index: Any, value: Callable[[int], Any]) -> Any:
    """Row `index` of a constant matrix times the vector `value`; `index` is constant once its loop is unrolled."""
    chosen: Any = None
    for number, row in enumerate(rows):
        total: Any = None
        for column, factor in enumerate(row):
            if factor == 0:
                continue
            term = value(column)
            if factor == -1 and total is not None:
                total = total - term
                continue
            term = term if factor == 1 else term * tirx.const(float(factor), "float32")
            total = term if total is None else total + term
        chosen = total if chosen is None else tirx.Select(index == number, total, chosen)
    return chosen


def padded_input(problem: ConvProblem, m: int, x: te.Tensor) -> te.Tensor:
    """The input with zeros around it, so large that every tile lies within it."""
    rows, columns = tiles(problem, m)
    height, width = problem.in_spatial
    top, left = problem.pads_begin
    shape = (problem.batch, problem.in_blocks, rows * m + 2, columns * m + 2, problem.in_block)

    def element(n: Any, k: Any, h: Any, w: Any, v: Any) -> Any:
        inside = tirx.all(h >= top, h < top + height, w >= left, w < left + width)
        return tirx.if_then_else(inside, x(n, k, h - top, w - left, v), tirx.const(0.0, "float32"))

    return stage(shape, element, PAD)


def transformed(problem: ConvProblem, m: int, blocks: int, x: te.Tensor, u: te.Tensor) -> te.Tensor:
    """The convolution through Winograd's transforms, in the output's layout."""
    t, (rows, columns) = m + 2, tiles(problem, m)
    n_tiles, batch, block = rows * columns, problem.batch, problem.out_block
    padded = padded_input(problem, m, x)
    row_shape = (batch, problem.in_blocks, n_tiles, t, t, problem.in_block)

    def row(n: Any, k: Any, p: Any, a: Any, c: Any, v: Any) -> Any:
        top, left = p // columns * m, p % columns * m
        return combination(BT[m], a, lambda r: padded(n, k, top + r, left + c, v))

    half = stage(row_shape, row, INPUT_ROWS)
    v_tiles = stage(
        (batch, t * t, problem.in_blocks, n_tiles, problem.in_block),
        lambda n, e, k, p, v: combination(BT[m], e % t, lambda c: half(n, k, p, e // t, c, v)),
        INPUT_TILES,
    )
    k, i = reduce_axis(problem.in_blocks, "k"), reduce_axis(problem.in_block, "i")
    shape = packed_shape(problem, m, blocks)
    products = stage(
        (batch, t * t, shape[1], blocks, n_tiles, block),
        lambda n, e, o, b, p, v: te.sum(v_tiles(n, e, k, p, i) * u(e, o, k, i, b, v), axis=[k, i]),
        PRODUCTS,
    )
    out_rows = stage(
        (batch, problem.out_blocks, n_tiles, m, t, block),
        lambda n, o, p, a, c, v: combination(AT[m], a, lambda r: products(n, r * t + c, o // blocks, o % blocks, p, v)),
        OUTPUT_ROWS,
    )
    return stage(
        (batch, problem.out_blocks, *problem.out_spatial, block),
        lambda n, o, h, w, v: combination(
            AT[m], w % m, lambda c: out_rows(n, o, h // m * columns + w // m, h % m, c, v)
        ),
        RESULT,
    )


class ConvWinograd:
    """3x3 convolution with stride 1, dense, blocked input and output, where Winograd's algorithm should pay."""

    name = "conv_winograd"

    def match(self, task: Task, target: Target) -> bool:
        """Float32 dense 3x3 stride-1 convolutions with constant weights that are expected to gain a fifth or more."""
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
        return shape_fits and best_plan(problem, target)[0] < 0.8 * direct_cycles(problem, target)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Output tile, tiles and channel blocks of a register tile, tile rows of a chunk, and what runs in parallel."""
        problem = conv_problem(task)
        return {
            "m": [2, 4],
            "tile_pixels": list(range(1, target.vector_registers + 1)),
            "blocks": divisors(problem.out_blocks, 8),
            "chunk_rows": list(range(1, tiles(problem, 2)[0] + 1)),
            "parallel": ["chunks", "stages"],
        }

    def default(self, task: Task, target: Target) -> Config:
        """The output tile and chunk with the fewest estimated cycles."""
        problem = conv_problem(task)
        _, m, chunk = best_plan(problem, target)
        rows, columns = tiles(problem, m)
        tile = choose_tile(1, chunk * columns, problem.out_blocks, problem.out_block, target)
        pieces = problem.batch * -(-rows // chunk)
        return {
            "m": m,
            "tile_pixels": tile.columns,
            "blocks": tile.blocks,
            "chunk_rows": chunk,
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
        schedule_winograd(schedule, problem, m, blocks, int(config["tile_pixels"]), chunk, by_chunks)
        tile_bytes = 4 * (m + 2) ** 2 * chunk * columns * (target.cores if by_chunks else 1)
        channels = problem.in_blocks * problem.in_block + problem.out_blocks * problem.out_block
        padded = 4 * problem.batch * problem.in_blocks * problem.in_block * (rows * m + 2) * (columns * m + 2)
        return Kernel(
            func=kernel_function(schedule, problem, target),
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


def winograd_cycles(problem: ConvProblem, m: int, chunk: int, target: Target) -> float:
    """Estimated cycles with output tiles of m x m and chunks of `chunk` tile rows.

    Counts the products, or the streaming of their weights for each chunk if that takes longer; the transforms; and the
    traffic of transformed tiles where a chunk's exceed half of the L2 cache.
    """
    vectors = vectors_per_block(problem.out_block, target)
    rows, columns = tiles(problem, m)
    cache = target.l2_bytes or 8 * target.l1_bytes
    t2, channels = (m + 2) ** 2, problem.in_channels + problem.out_channels
    passes = -(-rows // chunk)
    tile = choose_tile(1, chunk * columns, problem.out_blocks, problem.out_block, target)
    step = total_cycles(1, chunk * columns, problem.out_blocks, tile, vectors, target)
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


def schedule_winograd(
    schedule: TirSchedule,
    problem: ConvProblem,
    m: int,
    blocks: int,
    tile: int,
    chunk: int,
    by_chunks: bool,
) -> None:
    """Chunks of tile rows; in each: input transform, products, output transform."""
    out = inline_epilogue(schedule, keep=(PAD, INPUT_ROWS, INPUT_TILES, PRODUCTS, OUTPUT_ROWS))
    blocks_of = {name: schedule.get_sblock(name) for name in (PAD, INPUT_ROWS, INPUT_TILES, PRODUCTS, OUTPUT_ROWS)}
    for block in producers_of_accumulation(schedule):
        if block_name(schedule, block) not in (INPUT_ROWS, INPUT_TILES):
            schedule_elementwise(schedule, schedule.get_loops(block), parallel=True)
    n, o, h, w, v = schedule.get_loops(out)
    piece, row, a = schedule.split(h, [None, chunk, m])
    column, c = schedule.split(w, [None, m])
    schedule.reorder(n, piece, o, row, column, a, c, v)
    place = schedule.fuse(n, piece)
    schedule.unroll(a)
    schedule.unroll(c)
    schedule.vectorize(v)
    schedule.compute_at(blocks_of[OUTPUT_ROWS], column, preserve_unit_loops=True)
    for name in (PRODUCTS, INPUT_TILES):
        schedule.compute_at(blocks_of[name], place, preserve_unit_loops=True)
    if by_chunks:
        schedule.parallel(place)
    else:
        schedule.parallel(schedule.fuse(o, row))
    schedule_unrolled(schedule, blocks_of[OUTPUT_ROWS])

    *_, e, k, p, i = schedule.get_loops(blocks_of[INPUT_TILES])
    schedule.reorder(k, p, e, i)
    schedule.unroll(e)
    schedule.vectorize(i)
    schedule.compute_at(blocks_of[INPUT_ROWS], p, preserve_unit_loops=True)
    if not by_chunks:
        schedule.parallel(schedule.fuse(k, p))
    schedule_unrolled(schedule, blocks_of[INPUT_ROWS])

    products = blocks_of[PRODUCTS]
    store = schedule.cache_write(products, 0, "global")
    *_, e, o, b, p, v, k, i = schedule.get_loops(products)
    p, pixel = schedule.split(p, [None, tile])
    schedule.reorder(e, o, p, k, i, pixel, b, v)
    schedule.reverse_compute_at(store, p, preserve_unit_loops=True)
    cut_tail(schedule, p)
    if not by_chunks:
        schedule.parallel(schedule.fuse(e, o))
    for block in (products, store):
        for loop in schedule.get_loops(block)[-3:-1]:
            schedule.unroll(loop)
        schedule.vectorize(schedule.get_loops(block)[-1])
    init = schedule.decompose_reduction(products, k)
    for loop in schedule.get_loops(init)[-3:-1]:
        schedule.unroll(loop)
    schedule.vectorize(schedule.get_loops(init)[-1])


def schedule_unrolled(schedule: TirSchedule, block: Any) -> None:
    """Unrolls the last two loops before the vector loop of a transform, whose constants then fold."""
    first, second, vector = schedule.get_loops(block)[-3:]
    schedule.unroll(first)
    schedule.unroll(second)
    schedule.vectorize(vector)
