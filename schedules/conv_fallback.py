"""Any float convolution: any number of spatial axes, groups, layouts; weights constant or computed.

Two kernels, both over a plain, zero-padded copy of the input, both into a buffer of sums that the epilogue then reads:

    channels:  acc[n, g, t, p, v] += x[n, c, p * stride + k] * w[g, t, c, k, v]    vectors of output channels
    width:     acc[n, o, p, v]    += x[n, c, (p, v) * stride + k] * w[o, c, k]     vectors along the last axis

`width` is for groups with too few output channels to fill a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir.schedule import LoopRV, SBlockRV

from edgeir.schedules.conv_dense import cut_tail
from edgeir.schedules.conv_problem import ConvProblem, conv_problem
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    PAD,
    RESULT,
    TirSchedule,
    check_config,
    inline_what_can_be,
    kernel_function,
    new_schedule,
    reduce_axis,
    schedule_copies,
    schedule_elementwise,
    stage,
    static_shape,
)
from edgeir.schedules.register_tile import choose_tile
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target


def plain_input(problem: ConvProblem, x: te.Tensor, width: int) -> te.Tensor:
    """The input as (N, C, spatial), plain, zeros around it, the last axis `width` long."""
    extents = [problem.padded_extent(axis) for axis in range(problem.rank)]
    extents[-1] = width
    if not problem.in_block and tuple(extents) == problem.in_spatial and not any(problem.pads_begin):
        return x

    def element(*index: Any) -> Any:
        at = [i - begin for i, begin in zip(index[2:], problem.pads_begin, strict=True)]
        inside = tirx.all(*[tirx.all(p >= 0, p < e) for p, e in zip(at, problem.in_spatial, strict=True)])
        n, c, block = index[0], index[1], problem.in_block
        value = x(n, c // block, *at, c % block) if block else x(n, c, *at)
        return tirx.if_then_else(inside, value, tirx.const(0.0, str(x.dtype)))

    return stage((problem.batch, problem.in_channels, *extents), element, name=PAD)


def channel_vector(problem: ConvProblem, target: Target) -> int:
    """Output channels of a group that form one vector: the target's lanes, less where a group has fewer channels."""
    return min(target.lanes(32), 1 << (problem.out_group - 1).bit_length())


def packed_shape(problem: ConvProblem, vector: int) -> tuple[int, ...]:
    """Shape of the packed weight: (groups, vectors per group, I, kernel, vector)."""
    return (problem.groups, -(-problem.out_group // vector), problem.in_group, *problem.kernel, vector)


def pack_weight(problem: ConvProblem, vector: int) -> Callable[[np.ndarray], np.ndarray]:
    """How (O, I, kernel) weights are packed, zeros where the last vector of a group is not full."""

    def pack(weight: np.ndarray) -> np.ndarray:
        groups, vectors = packed_shape(problem, vector)[:2]
        full = np.zeros((groups, vectors * vector, *weight.shape[1:]), weight.dtype)
        full[:, : problem.out_group] = weight.reshape(groups, problem.out_group, *weight.shape[1:])
        full = full.reshape(groups, vectors, vector, *weight.shape[1:])
        return np.ascontiguousarray(np.moveaxis(full, 2, -1))

    return pack


def computed_pack(problem: ConvProblem, vector: int, w: te.Tensor) -> te.Tensor:
    """The packing of `pack_weight` as part of the kernel, for weights that are not constant."""

    def element(g: Any, t: Any, i: Any, *rest: Any) -> Any:
        o = t * vector + rest[-1]
        value = w(g * problem.out_group + o, i, *rest[:-1])
        return tirx.if_then_else(o < problem.out_group, value, tirx.const(0.0, str(w.dtype)))

    return stage(packed_shape(problem, vector), element, name="conv_weight")


class ConvFallback:
    """Convolutions that no better template takes."""

    name = "conv_fallback"

    def match(self, task: Task, target: Target) -> bool:
        """Every convolution on floating-point operands of one type."""
        dtypes = {spec.dtype for spec in (*task.anchor_inputs, task.anchor_output)}
        return task.anchor == "conv" and len(dtypes) == 1 and dtypes.pop().startswith("float")

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Which axis forms vectors, and how many pixels (`channels`) or output channels (`width`) a tile spans."""
        problem = conv_problem(task)
        most = min(problem.out_spatial[-1], target.vector_registers)
        return {"vectors": ["channels", "width"], "tile": sorted({*range(1, most + 1), 2, 4, 8})}

    def default(self, task: Task, target: Target) -> Config:
        """Vectors of channels if a group fills at least half a vector, or there is no width to speak of."""
        problem = conv_problem(task)
        lanes, width = target.lanes(32), problem.out_spatial[-1]
        if 2 * problem.out_group >= lanes or 2 * problem.out_group >= width:
            tile = choose_tile(1, width, 1, channel_vector(problem, target), target)
            return {"vectors": "channels", "tile": tile.columns}
        most = max(1, target.vector_registers // 4)
        return {"vectors": "width", "tile": next(n for n in (8, 4, 2, 1) if n <= most and problem.out_group % n == 0)}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace holds the padded input, the sums and weights packed at run time."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        tile, by_channels = int(config["tile"]), config["vectors"] == "channels"
        vector = channel_vector(problem, target) if by_channels else target.lanes(32)
        index = problem.weight_operand if by_channels else None
        buffers: list[te.Tensor] = []

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            x, w = inputs
            if by_channels:
                padded = plain_input(problem, x, problem.padded_extent(problem.rank - 1))
                packed = w if index is not None else computed_pack(problem, vector, w)
                acc = accumulate_channels(problem, vector, padded, packed)
            else:
                packed = w
                spare = (-problem.out_spatial[-1] % vector) * problem.strides[-1]
                padded = plain_input(problem, x, problem.padded_extent(problem.rank - 1) + spare)
                acc = accumulate_width(problem, vector, padded, w)
            buffers.extend(t for t in (padded, packed, acc) if t not in inputs)
            return result(problem, vector, by_channels, acc, task.anchor_output.shape)

        packed = {} if index is None else {index: packed_shape(problem, vector)}
        placeholders, outputs = task.build(anchor, packed)
        schedule = new_schedule(task, placeholders, outputs)
        schedule_copies(schedule, parallel=True)
        for block in inline_what_can_be(schedule):
            schedule_elementwise(schedule, schedule.get_loops(block), parallel=True)
        if by_channels:
            schedule_channels(schedule, problem, tile)
        else:
            schedule_width(schedule, problem, tile)
        size = np.dtype(task.anchor_output.dtype).itemsize
        return Kernel(
            func=kernel_function(schedule, problem, target),
            pack={} if index is None else {index: pack_weight(problem, vector)},
            workspace_bytes=sum(size * math.prod(static_shape(t)) for t in buffers),
        )


def accumulate_channels(problem: ConvProblem, vector: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """Sums as (N, groups, vectors, spatial, vector)."""
    c = reduce_axis(problem.in_group, "c")
    ks = [reduce_axis(extent, f"k{axis}") for axis, extent in enumerate(problem.kernel)]

    def element(n: Any, g: Any, t: Any, *rest: Any) -> Any:
        at = [p * s + k * d for p, s, k, d in zip(rest[:-1], problem.strides, ks, problem.dilations, strict=True)]
        return te.sum(x(n, g * problem.in_group + c, *at) * w(g, t, c, *ks, rest[-1]), axis=[c, *ks])

    groups, vectors = packed_shape(problem, vector)[:2]
    return stage((problem.batch, groups, vectors, *problem.out_spatial, vector), element, name=ACCUMULATE)


def accumulate_width(problem: ConvProblem, vector: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """Sums as (N, O, spatial without the last axis, vectors, vector)."""
    c = reduce_axis(problem.in_group, "c")
    ks = [reduce_axis(extent, f"k{axis}") for axis, extent in enumerate(problem.kernel)]

    def element(n: Any, o: Any, *rest: Any) -> Any:
        pixel = [*rest[:-2], rest[-2] * vector + rest[-1]]
        at = [p * s + k * d for p, s, k, d in zip(pixel, problem.strides, ks, problem.dilations, strict=True)]
        channel = o // problem.out_group * problem.in_group + c
        return te.sum(x(n, channel, *at) * w(o, c, *ks), axis=[c, *ks])

    vectors = -(-problem.out_spatial[-1] // vector)
    shape = (problem.batch, problem.out_channels, *problem.out_spatial[:-1], vectors, vector)
    return stage(shape, element, name=ACCUMULATE)


def result(problem: ConvProblem, vector: int, by_channels: bool, acc: te.Tensor, shape: Sequence[int]) -> te.Tensor:
    """The sums in the output's layout; zeros in lanes beyond the output channels."""

    def element(*index: Any) -> Any:
        block = problem.out_block
        n, spatial = index[0], index[2 : 2 + problem.rank]
        o = index[1] * block + index[-1] if block else index[1]
        if by_channels:
            g, within = o // problem.out_group, o % problem.out_group
            value = acc(n, g, within // vector, *spatial, within % vector)
        else:
            value = acc(n, o, *spatial[:-1], spatial[-1] // vector, spatial[-1] % vector)
        if not block or problem.out_channels % block == 0:
            return value
        return tirx.if_then_else(o < problem.out_channels, value, tirx.const(0.0, str(acc.dtype)))

    return stage(tuple(shape), element, name=RESULT)


def schedule_channels(schedule: TirSchedule, problem: ConvProblem, tile: int) -> None:
    """Tiles of pixels along the last axis, vectors of channels; the other axes in parallel."""
    acc = schedule.get_sblock(ACCUMULATE)
    store = schedule.cache_write(acc, 0, "global")
    loops = schedule.get_loops(acc)
    reduction = loops[-problem.rank - 1 :]
    *outer, w, v = loops[: -problem.rank - 1]
    w, pixel = schedule.split(w, [None, tile])
    schedule.reorder(*outer, w, *reduction, pixel, v)
    keep_in_registers(schedule, store, outer, w, reduction)


def schedule_width(schedule: TirSchedule, problem: ConvProblem, tile: int) -> None:
    """Tiles of output channels of one group, vectors along the last axis; the other axes in parallel."""
    acc = schedule.get_sblock(ACCUMULATE)
    store = schedule.cache_write(acc, 0, "global")
    loops = schedule.get_loops(acc)
    reduction = loops[-problem.rank - 1 :]
    n, o, *outer, w, v = loops[: -problem.rank - 1]
    # A tile that straddled groups would read different inputs for its channels.
    tile = max(n for n in range(1, tile + 1) if problem.out_group % n == 0)
    o, channel = schedule.split(o, [None, tile])
    schedule.reorder(n, o, *outer, w, *reduction, channel, v)
    keep_in_registers(schedule, store, [n, o, *outer], w, reduction)


def keep_in_registers(
    schedule: TirSchedule, store: SBlockRV, outer: Sequence[LoopRV], place: LoopRV, reduction: Sequence[LoopRV]
) -> None:
    """Sums a tile in a small buffer below the loop `place`, and stores it once; `outer` run in parallel."""
    acc = schedule.get_sblock(ACCUMULATE)
    schedule.reverse_compute_at(store, place, preserve_unit_loops=True)
    schedule.parallel(schedule.fuse(*outer))
    cut_tail(schedule, place)
    for block in (acc, store):
        tile, vector = schedule.get_loops(block)[-2:]
        schedule.unroll(tile)
        schedule.vectorize(vector)
    init = schedule.decompose_reduction(acc, reduction[0])
    tile, vector = schedule.get_loops(init)[-2:]
    schedule.unroll(tile)
    schedule.vectorize(vector)
