"""Transforms of Winograd's minimal filtering F(2x2, 3x3) and F(4x4, 3x3) for floats.

The interpolation points are 0, 1, -1 (and 2, -2), infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from edgeir.schedules.conv_problem import ConvProblem

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
"""The transforms of a row of the kernel, by m."""


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


def input_transform(m: int, x: Sequence[Any]) -> list[Any]:
    """B^T x, with the parts that sums share written alike, so that LLVM computes them once."""
    if m == 2:
        return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]
    two, four = (tirx.const(factor, "float32") for factor in (2.0, 4.0))
    even, odd = x[4] - four * x[2], x[3] - four * x[1]
    outer, inner = x[4] - x[2], x[3] - x[1]
    first, last = outer + four * (x[0] - x[2]), (x[5] - x[3]) - four * inner
    return [first, even + odd, even - odd, outer + two * inner, outer - two * inner, last]


def output_transform(m: int, x: Sequence[Any]) -> list[Any]:
    """A^T x, shared parts written alike."""
    if m == 2:
        return [x[0] + (x[1] + x[2]), (x[1] - x[2]) - x[3]]
    two, four, eight = (tirx.const(factor, "float32") for factor in (2.0, 4.0, 8.0))
    near, far = x[1] + x[2], x[3] + x[4]
    across, beyond = x[1] - x[2], x[3] - x[4]
    return [(x[0] + near) + far, across + two * beyond, near + four * far, (across + x[5]) + eight * beyond]


def chosen(values: Sequence[Any], index: Any) -> Any:
    """The value at `index`, which is constant once its loop is unrolled."""
    found = values[0]
    for number, value in enumerate(values[1:], start=1):
        found = tirx.Select(index == number, value, found)
    return found
