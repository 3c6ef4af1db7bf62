"""Stages of integer convolutions: the input as quads of channels, packed weights, sums of quads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import ACCUMULATE, PAD, reduce_axis, stage, static_shape
from edgeir.schedules.dot_intrinsics import QUAD, DotProduct

LONGEST_PART = 16
"""Channels of one block of an input that is copied from a plain layout."""


def channel_part(problem: ConvProblem) -> int:
    """Input channels of one step of the outermost reduction: whole quads, within one block, no channel walked twice.

    Only the last quad of a group may hold lanes beyond its channels; their weights are 0.
    """
    quads = -(-problem.in_group // QUAD) * QUAD
    return math.gcd(problem.in_block or LONGEST_PART, quads)


def packed_shape(problem: ConvProblem, dot: DotProduct, blocks: int) -> tuple[int, ...]:
    """(O tiles, I parts, KH, KW, quads, blocks, lanes, 4) of the packed weight; (…, 2, lanes, 2) in halves."""
    part = channel_part(problem)
    tiles = -(-problem.out_channels // (dot.lanes * blocks))
    parts = -(-problem.in_group // part)
    register = (2, dot.lanes, QUAD // 2) if dot.halves else (dot.lanes, QUAD)
    return (tiles, parts, *problem.kernel, part // QUAD, blocks, *register)


def pack_weight(problem: ConvProblem, dot: DotProduct, blocks: int) -> Callable[[np.ndarray], np.ndarray]:
    """How OIHW weights are packed, zeros where a block or a quad is not full."""
    tiles, parts, kh, kw, quads = packed_shape(problem, dot, blocks)[:5]

    def pack(weight: np.ndarray) -> np.ndarray:
        full = np.zeros((tiles * blocks * dot.lanes, parts * quads * QUAD, kh, kw), weight.dtype)
        full[: weight.shape[0], : weight.shape[1]] = weight
        full = full.reshape(tiles, blocks, dot.lanes, parts, quads, 2, QUAD // 2, kh, kw)
        order = (0, 3, 7, 8, 4, 1, 5, 2, 6) if dot.halves else (0, 3, 7, 8, 4, 1, 2, 5, 6)
        return np.ascontiguousarray(full.transpose(order)).reshape(packed_shape(problem, dot, blocks))

    return pack


def quads_input(problem: ConvProblem, x: te.Tensor, zero: int) -> te.Tensor:
    """The input as (N, blocks, H, W, channels of a block), with a border of its zero point.

    Blocked inputs are copied only where there is a border; plain ones are interleaved.
    """
    part, block = channel_part(problem), problem.in_block
    if block and not problem.padded:
        return x
    shape = static_shape(x)
    if not block:
        shape = [shape[0], -(-problem.in_channels // part), *shape[2:], part]
    shape[2:4] = [problem.padded_extent(0), problem.padded_extent(1)]

    def element(n: Any, k: Any, h: Any, w: Any, i: Any) -> Any:
        inside = []
        for axis, place in enumerate((h, w)):
            begin, extent = problem.pads_begin[axis], problem.in_spatial[axis]
            if begin:
                inside.append(tirx.likely(place >= begin))
            if problem.padded_extent(axis) > begin + extent:
                inside.append(tirx.likely(place < begin + extent))
        h, w = h - problem.pads_begin[0], w - problem.pads_begin[1]
        if not block and problem.in_channels % part:
            inside.append(k * part + i < problem.in_channels)
        value = x[n, k, h, w, i] if block else x[n, k * part + i, h, w]
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(zero, str(x.dtype))) if inside else value

    return stage(shape, element, name=PAD)


def _product(
    problem: ConvProblem, dot: DotProduct, blocks: int, x: te.Tensor, w: te.Tensor, at: Sequence[Any], axes: Any
) -> Any:
    """The sum at (n, o, b, v), whose products start at (row, column) of the bordered input."""
    n, o, b, v, row, column = at
    k, r, c, j, *inner = axes
    part, block = channel_part(problem), static_shape(x)[-1]
    row, column = row + r * problem.dilations[0], column + c * problem.dilations[1]
    if problem.groups > 1:
        k = o * (dot.lanes * blocks) // problem.out_group * (problem.in_group // part) + k
    channel = j * QUAD + (inner[0] * 2 + inner[1] if dot.halves else inner[0])
    value: Any = x[n, k // (block // part), row, column, k % (block // part) * part + channel]
    lane = (inner[0], v, inner[1]) if dot.halves else (v, inner[0])
    weight: Any = w[(o, axes[0], r, c, j, b, *lane)]
    return te.sum(value.astype("int32") * weight.astype("int32"), axis=list(axes))


def _axes(shape: tuple[int, ...], dot: DotProduct) -> list[Any]:
    axes = [reduce_axis(extent, name) for extent, name in zip(shape[1:5], "krcj", strict=True)]
    inner = [reduce_axis(2, "s"), reduce_axis(2, "q")] if dot.halves else [reduce_axis(QUAD, "q")]
    return [*axes, *inner]


def accumulate_rows(problem: ConvProblem, dot: DotProduct, blocks: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """The raw sums as (N, O tiles, blocks, OH, OW, lanes)."""
    shape = packed_shape(problem, dot, blocks)
    axes = _axes(shape, dot)

    def element(n: Any, o: Any, b: Any, h: Any, q: Any, v: Any) -> Any:
        at = (n, o, b, v, h * problem.strides[0], q * problem.strides[1])
        return _product(problem, dot, blocks, x, w, at, axes)

    return stage((problem.batch, shape[0], blocks, *problem.out_spatial, dot.lanes), element, name=ACCUMULATE)


def accumulate_pixels(problem: ConvProblem, dot: DotProduct, blocks: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """The raw sums over flattened pixels, as (N, O tiles, blocks, 1, OH * OW, lanes)."""
    shape, width = packed_shape(problem, dot, blocks), problem.out_spatial[1]
    axes = _axes(shape, dot)

    def element(n: Any, o: Any, b: Any, z: Any, p: Any, v: Any) -> Any:
        at = (n, o, b, v, p // width * problem.strides[0], p % width * problem.strides[1])
        return _product(problem, dot, blocks, x, w, at, axes)

    return stage((problem.batch, shape[0], blocks, 1, problem.pixels, dot.lanes), element, name=ACCUMULATE)
