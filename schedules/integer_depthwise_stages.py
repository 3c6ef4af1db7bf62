"""Stages of integer depthwise convolutions: packed weights, the bordered input, and sums in two ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import ACCUMULATE, PAD, RESULT, reduce_axis, stage, static_shape
from edgeir.schedules.integer_depthwise_intrinsics import TapDot
from edgeir.schedules.integer_depthwise_tile import tap_groups

WEIGHTS = "depthwise_weights"


def packed_shape(problem: ConvProblem, dot: TapDot | None) -> tuple[int, ...]:
    """(C blocks, KH, KW, block); (C blocks, KH, groups of taps, block, taps) of kernels too small for one group."""
    if dot is None or not in_filled_groups(problem, dot):
        return (problem.out_blocks, *problem.kernel, problem.out_block)
    return (problem.out_blocks, problem.kernel[0], tap_groups(problem, dot.taps), problem.out_block, dot.taps)


def in_filled_groups(problem: ConvProblem, dot: TapDot) -> bool:
    """Whether weights are stored in groups of taps filled up with zeros: a kernel holds less than one group."""
    return math.prod(problem.kernel) < dot.taps


def pack_weight(problem: ConvProblem, dot: TapDot | None) -> Callable[[np.ndarray], np.ndarray]:
    """How (C, 1, KH, KW) weights are packed; zeros where a block or a group of taps is not full."""
    shape = packed_shape(problem, dot)
    taps = 1 if len(shape) == 4 else shape[-1]

    def pack(weight: np.ndarray) -> np.ndarray:
        rows, columns = problem.kernel
        width = taps * shape[2]
        full = np.zeros((problem.out_blocks * problem.out_block, rows, width), weight.dtype)
        full[: weight.shape[0], :, :columns] = weight[:, 0]
        split = full.reshape(problem.out_blocks, problem.out_block, rows, -1, taps)
        return np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4)).reshape(shape)

    return pack


def extents(problem: ConvProblem, dot: TapDot | None) -> tuple[int, int]:
    """Rows and columns of the bordered input that are read; groups of taps reach beyond the kernel."""
    rows, columns = problem.padded_extent(0), problem.padded_extent(1)
    return rows, columns if dot is None else columns - problem.kernel[1] + dot.taps * tap_groups(problem, dot.taps)


def band_bytes(problem: ConvProblem, dot: TapDot | None, band: int) -> int:
    """Bytes of the bordered input of `band` output rows of one channel block."""
    rows = (band - 1) * problem.strides[0] + (problem.kernel[0] - 1) * problem.dilations[0] + 1
    return (4 if dot is None else 1) * rows * extents(problem, dot)[1] * problem.out_block


def bordered(x: te.Tensor, problem: ConvProblem, zero: int, dot: TapDot | None) -> te.Tensor:
    """The input with its zero point around it, in the element type in which it is multiplied."""
    dtype = "float32" if dot is None else str(x.dtype)
    shape = (problem.batch, problem.out_blocks, *extents(problem, dot), problem.out_block)

    def element(n: Any, k: Any, h: Any, q: Any, v: Any) -> Any:
        at, inside = [h, q], []
        for axis in range(2):
            begin, extent = problem.pads_begin[axis], problem.in_spatial[axis]
            at[axis] = at[axis] - begin
            if begin:
                inside.append(tirx.likely(at[axis] >= 0))
            if shape[2 + axis] > begin + extent:
                inside.append(tirx.likely(at[axis] < extent))
        value: Any = x(n, k, *at, v)
        value = value.astype(dtype)
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(zero, dtype)) if inside else value

    return stage(shape, element, name=PAD)


def dot_sums(x: te.Tensor, w: te.Tensor, problem: ConvProblem, dot: TapDot) -> te.Tensor:
    """The raw sums, a group of taps at a time."""
    padded, weight = _indexable(x), _indexable(w)
    strides, dilation = problem.strides, problem.dilations[0]
    groups, width = tap_groups(problem, dot.taps), problem.kernel[1]
    filled = in_filled_groups(problem, dot)
    r, j, t = (reduce_axis(n, name) for n, name in ((problem.kernel[0], "r"), (groups, "j"), (dot.taps, "t")))

    def element(n: Any, k: Any, h: Any, q: Any, v: Any) -> Any:
        value = padded[n, k, h * strides[0] + r * dilation, q * strides[1] + j * dot.taps + t, v]
        tap: Any = j * dot.taps + t
        one: Any = weight[k, r, j, v, t] if filled else weight[k, r, tap, v]
        if not filled and width % dot.taps:
            one = tirx.if_then_else(tap < width, one, tirx.const(0, str(w.dtype)))
        return te.sum(value.astype("int32") * one.astype("int32"), axis=[r, j, t])

    acc = stage((problem.batch, problem.out_blocks, *problem.out_spatial, problem.out_block), element, ACCUMULATE)
    return stage(static_shape(acc), lambda *i: acc(*i), name=RESULT)


def float_sums(x: te.Tensor, w: te.Tensor, problem: ConvProblem) -> te.Tensor:
    """The raw sums in float32, converted to integers."""
    padded, packed = _indexable(x), _indexable(w)
    strides, dilations = problem.strides, problem.dilations
    weights = _indexable(stage(packed_shape(problem, None), lambda *i: packed(*i).astype("float32"), WEIGHTS))
    r, c = (reduce_axis(extent, name) for extent, name in zip(problem.kernel, "rc", strict=True))

    def element(n: Any, k: Any, h: Any, q: Any, v: Any) -> Any:
        value = padded[n, k, h * strides[0] + r * dilations[0], q * strides[1] + c * dilations[1], v]
        return te.sum(value * weights[k, r, c, v], axis=[r, c])

    shape = (problem.batch, problem.out_blocks, *problem.out_spatial, problem.out_block)
    acc = _indexable(stage(shape, element, ACCUMULATE))
    return stage(shape, lambda *i: acc(*i).astype("int32"), name=RESULT)


def _indexable(tensor: te.Tensor) -> Any:
    """The tensor without TVM's annotations, which know nothing of index arithmetic."""
    return tensor
