"""Stages of Winograd's minimal filtering in whole numbers: transforms, packed weights, sums of pairs of channels.

The matrices are those of `conv_winograd`, the rows of G multiplied by what makes them integers:

    F(2x2, 3x3)   G times 2,                 the products are 2^2 times the convolution
    F(4x4, 3x3)   G times 24 (its last 12),  the products are 24^2 = 9 * 2^6 times the convolution

Transformed inputs are at most 4 * 255 and 100 * 255, transformed weights 9 * 128 and 144 * 128: both are int16. All
sums are modulo 2^32. There 9 has an inverse, and what is left is the convolution shifted left by 2 or 6 bits, which is
exact where the sums of the convolution leave these bits free (`Integers.headroom`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import ACCUMULATE, PAD, RESULT, reduce_axis, stage
from edgeir.schedules.conv_winograd import tiles
from edgeir.schedules.dot_intrinsics import DotProduct

INPUT_ROWS, INPUT_TILES = "winograd_input_rows", "winograd_input"
PRODUCTS, OUTPUT_ROWS = "winograd_products", "winograd_output_rows"

G = {
    2: [[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]],
    4: [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 12]],
}
SHIFT = {2: 2, 4: 6}
"""Bits that the results are shifted by, by output tile."""

INVERSE = {2: 1, 4: 954437177}
"""What results are multiplied by before: 1, and the inverse of 9 modulo 2^32."""


def channel_chunk(problem: ConvProblem, dot: DotProduct) -> int:
    """Input channels that are transformed together: a register of int16, or a block if there is but one."""
    return max(problem.in_block, 2 * dot.lanes) if problem.in_blocks > 1 else problem.in_block


def chunks(problem: ConvProblem, dot: DotProduct) -> int:
    """Chunks of input channels."""
    return -(-problem.in_channels // channel_chunk(problem, dot))


def packed_shape(problem: ConvProblem, dot: DotProduct, m: int, blocks: int) -> tuple[int, ...]:
    """The packed weight's (O tiles, t * t, I chunks, pairs, blocks, lanes, 2): the order in which it is read."""
    o = -(-problem.out_channels // (dot.lanes * blocks))
    pairs = channel_chunk(problem, dot) // dot.group
    return (o, (m + 2) ** 2, chunks(problem, dot), pairs, blocks, dot.lanes, dot.group)


def pack_weight(problem: ConvProblem, dot: DotProduct, m: int, blocks: int) -> Callable[[np.ndarray], np.ndarray]:
    """How OIHW weights become transformed and packed, zeros where a block or a chunk is not full."""
    shape = packed_shape(problem, dot, m, blocks)

    def pack(weight: np.ndarray) -> np.ndarray:
        o, e, k, pairs, _, lanes, pair = shape
        g = np.array(G[m], np.int32)
        transformed = np.einsum("xr,oirs,ys->xyoi", g, weight.astype(np.int32), g).reshape(e, *weight.shape[:2])
        full = np.zeros((e, o * blocks * lanes, k * pairs * pair), np.int16)
        full[:, : weight.shape[0], : weight.shape[1]] = transformed
        return np.ascontiguousarray(full.reshape(e, o, blocks, lanes, k, pairs, pair).transpose(1, 0, 4, 5, 2, 3, 6))

    return pack


def input_transform(m: int, x: Sequence[Any]) -> list[Any]:
    """B^T x for int16, subexpressions shared."""
    if m == 2:
        return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]
    two, four = (tirx.const(factor, "int16") for factor in (2, 4))
    even, odd = x[4] - four * x[2], x[3] - four * x[1]
    outer, inner = x[4] - x[2], two * (x[3] - x[1])
    first, last = outer + four * (x[0] - x[2]), (x[5] - x[3]) - two * inner
    return [first, even + odd, even - odd, outer + inner, outer - inner, last]


def output_transform(m: int, x: Sequence[Any]) -> list[Any]:
    """A^T x for uint32, subexpressions shared; for m = 4 its last column times 2, as the last row of G is times 12."""
    if m == 2:
        return [x[0] + (x[1] + x[2]), x[1] - x[2] - x[3]]
    two, four, eight = (tirx.const(factor, "uint32") for factor in (2, 4, 8))
    near, far = x[1] + x[2], x[3] + x[4]
    across, beyond = x[1] - x[2], x[3] - x[4]
    last = two * x[5]
    return [(x[0] + near) + far, across + two * beyond, near + four * far, across + eight * beyond + last]


def chosen(values: Sequence[Any], index: Any) -> Any:
    """The value at `index`, which is constant once its loop is unrolled."""
    found = values[0]
    for number, value in enumerate(values[1:], start=1):
        found = tirx.Select(index == number, value, found)
    return found


def bordered_input(problem: ConvProblem, dot: DotProduct, m: int, rows: int, x: te.Tensor, zero: int) -> te.Tensor:
    """The input as (N, chunks, H, W, channels), with a border of its zero point in which `rows` rows of tiles lie."""
    (height, width), (top, left) = problem.in_spatial, problem.pads_begin
    block, channels = problem.in_block, channel_chunk(problem, dot)
    extents = (rows * m + 2, tiles(problem, m)[1] * m + 2)
    shape = (problem.batch, chunks(problem, dot), *extents, channels)

    def element(n: Any, k: Any, h: Any, w: Any, i: Any) -> Any:
        inside = []
        for place, begin, extent, whole in ((h, top, height, extents[0]), (w, left, width, extents[1])):
            if begin:
                inside.append(tirx.likely(place >= begin))
            if whole > begin + extent:
                inside.append(tirx.likely(place < begin + extent))
        at = k * (channels // block) + i // block
        if problem.in_blocks * block % channels:
            inside.append(at < problem.in_blocks)
        value = x(n, at, h - top, w - left, i % block)
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(zero, str(x.dtype))) if inside else value

    return stage(shape, element, PAD)


def transformed(
    problem: ConvProblem, dot: DotProduct, m: int, blocks: int, chunk: int, x: te.Tensor, u: te.Tensor, zero: int
) -> te.Tensor:
    """The raw sums of the convolution through Winograd's transforms, in the output's layout.

    Args:
        problem: the convolution.
        dot: the inner product of pairs.
        m: rows and columns of an output tile.
        blocks: channel blocks of a register tile.
        chunk: tile rows that are transformed at once.
        x: the input.
        u: the packed weight.
        zero: the input's zero point.
    """
    t, (rows, columns) = m + 2, tiles(problem, m)
    pieces, n_tiles, batch, lanes = -(-rows // chunk), chunk * columns, problem.batch, dot.lanes
    bordered = bordered_input(problem, dot, m, pieces * chunk, x, zero)
    o_tiles, _, *extents, _, _, pair = packed_shape(problem, dot, m, blocks)

    def row(n: Any, g: Any, k: Any, p: Any, a: Any, c: Any, v: Any) -> Any:
        top, left = (g * chunk + p // columns) * m, p % columns * m
        return chosen(input_transform(m, [bordered(n, k, top + r, left + c, v).astype("int16") for r in range(t)]), a)

    channels = channel_chunk(problem, dot)
    half = stage((batch, pieces, extents[0], n_tiles, t, t, channels), row, INPUT_ROWS)
    v_tiles = stage(
        (batch, pieces, t * t, extents[0], n_tiles, channels),
        lambda n, g, e, k, p, v: chosen(input_transform(m, [half(n, g, k, p, e // t, c, v) for c in range(t)]), e % t),
        INPUT_TILES,
    )
    k, j, q = (reduce_axis(extent, name) for extent, name in zip((*extents, pair), "kjq", strict=True))

    def product(n: Any, g: Any, e: Any, o: Any, b: Any, p: Any, v: Any) -> Any:
        value: Any = v_tiles(n, g, e, k, p, j * pair + q)
        return te.sum(value.astype("int32") * u(o, e, k, j, b, v, q).astype("int32"), axis=[k, j, q])

    # The sums of a register tile, and where all sums of a chunk are stored.
    shape = (batch, pieces, t * t, o_tiles, blocks, n_tiles, lanes)
    sums = stage(shape, product, ACCUMULATE)
    products = stage(shape, lambda *index: sums(*index), PRODUCTS)

    def out_row(n: Any, o: Any, g: Any, p: Any, a: Any, c: Any, v: Any) -> Any:
        # Unsigned: these sums may wrap, which TVM has LLVM assume signed ones do not.
        def wrapping(r: int) -> Any:
            return products(n, g, r * t + c, o // blocks, o % blocks, p, v).astype("uint32")

        return chosen(output_transform(m, [wrapping(r) for r in range(t)]), a)

    out_rows = stage((batch, problem.out_blocks, pieces, n_tiles, m, t, lanes), out_row, OUTPUT_ROWS)

    def result(n: Any, o: Any, h: Any, w: Any, v: Any) -> Any:
        place = (h // (m * chunk), h % (m * chunk) // m * columns + w // m)
        scaled = chosen(output_transform(m, [out_rows(n, o, *place, h % m, c, v) for c in range(t)]), w % m)
        whole = (scaled * tirx.const(INVERSE[m], "uint32")).astype("int32")
        return whole >> tirx.const(SHIFT[m], "int32")

    return stage((batch, problem.out_blocks, *problem.out_spatial, lanes), result, RESULT)
