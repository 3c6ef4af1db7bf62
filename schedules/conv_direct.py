"""Direct 2-D convolution: a register tile of pixels x channel blocks, accumulated over input channels and kernel.

    acc[o, p, v] += x[k, p * stride + kernel, i] * w[o, k, kernel, i, v]

One input element is broadcast against vectors of packed weights; bias and epilogue run on the register tile. The input
may be plain or blocked, the output plain or blocked. Zeros around the input come from a padded copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tvm import te
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from edgeir.schedules.conv_problem import ConvProblem, conv_problem, is_plain_float_conv
from edgeir.schedules.conv_stages import (
    ACCUMULATE,
    RESULT,
    check_config,
    inline_epilogue,
    new_schedule,
    schedule_copies,
    workspace_bytes,
    zero_padded,
)
from edgeir.schedules.register_tile import choose_tile, divisors
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target


def output_block(problem: ConvProblem, target: Target) -> int:
    """Output channels that are computed together as one block: the output's own block, or what fills a vector."""
    if problem.out_block:
        return problem.out_block
    lanes = target.lanes(32)
    while lanes > 1 and problem.groups > 1 and problem.out_group % lanes:
        lanes //= 2
    return lanes


def pack_weight(problem: ConvProblem, block: int, blocks: int) -> Callable[[np.ndarray], np.ndarray]:
    """How OIHW weights become (O tiles, I blocks, KH, KW, I, blocks, block), zeros where a block is not full."""
    _, in_blocks, kh, kw, inner, _, _ = packed_shape(problem, block, blocks)

    def pack(weight: np.ndarray) -> np.ndarray:
        out_tiles = packed_shape(problem, block, blocks)[0]
        full = np.zeros((out_tiles * blocks * block, in_blocks * inner, kh, kw), weight.dtype)
        full[: weight.shape[0], : weight.shape[1]] = weight
        full = full.reshape(out_tiles, blocks, block, in_blocks, inner, kh, kw)
        return np.ascontiguousarray(full.transpose(0, 3, 5, 6, 4, 1, 2))

    return pack


def packed_shape(problem: ConvProblem, block: int, blocks: int) -> tuple[int, ...]:
    """Shape of the packed weight: (O tiles, I blocks, KH, KW, I, blocks, block)."""
    inner = problem.in_block or problem.in_group
    out_tiles = -(-problem.out_channels // (block * blocks))
    return (out_tiles, -(-problem.in_group // inner), *problem.kernel, inner, blocks, block)


def accumulate(problem: ConvProblem, block: int, blocks: int, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """The convolution's sums as (N, O tiles, blocks, OH, OW, block)."""
    out_tiles, in_blocks, kh, kw, inner, _, _ = packed_shape(problem, block, blocks)
    strides, dilations = problem.strides, problem.dilations
    k, i = te.reduce_axis((0, in_blocks), name="k"), te.reduce_axis((0, inner), name="i")
    r, c = te.reduce_axis((0, kh), name="r"), te.reduce_axis((0, kw), name="c")

    def element(n, o, b, h, w_, v):  # noqa: ANN001, ANN202
        group = o * (block * blocks) // problem.out_group if problem.groups > 1 else 0
        row, column = h * strides[0] + r * dilations[0], w_ * strides[1] + c * dilations[1]
        if problem.in_block:
            value = x[n, group * in_blocks + k, row, column, i]
        else:
            value = x[n, group * problem.in_group + i, row, column]
        return te.sum(value * w[o, k, r, c, i, b, v], axis=[k, r, c, i])

    return te.compute((problem.batch, out_tiles, blocks, *problem.out_spatial, block), element, name=ACCUMULATE)


def result(problem: ConvProblem, block: int, blocks: int, acc: te.Tensor) -> te.Tensor:
    """The sums as they lie in the output: (N, O blocks, OH, OW, block) or (N, O, OH, OW)."""
    if problem.out_block:
        shape = (problem.batch, problem.out_blocks, *problem.out_spatial, block)
        return te.compute(shape, lambda n, o, h, w, v: acc[n, o // blocks, o % blocks, h, w, v], name=RESULT)
    shape = (problem.batch, problem.out_channels, *problem.out_spatial)
    whole = block * blocks
    return te.compute(shape, lambda n, o, h, w: acc[n, o // whole, o % whole // block, h, w, o % block], name=RESULT)


class ConvDirect:
    """Direct convolution with any kernel, stride, dilation and padding, whole channel blocks per group."""

    name = "conv_direct"

    def match(self, task: Task, target: Target) -> bool:
        """Float32 2-D convolutions with constant weights whose groups consist of whole channel blocks."""
        if not is_plain_float_conv(task):
            return False
        problem = conv_problem(task)
        if problem.rank != 2 or problem.weight_operand is None:
            return False
        block = output_block(problem, target)
        whole_out = problem.groups == 1 or problem.out_group % block == 0
        whole_in = problem.groups == 1 or not problem.in_block or problem.in_group % problem.in_block == 0
        return whole_out and whole_in and block > 1

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Tile rows and columns, channel blocks of a tile, and which loop is outermost."""
        problem = conv_problem(task)
        block = output_block(problem, target)
        per_group = -(-problem.out_group // block)
        rows, columns = problem.out_spatial
        return {
            "tile_rows": [n for n in (1, 2, 4) if n <= rows],
            "tile_columns": list(range(1, min(columns, target.vector_registers) + 1)),
            "blocks": divisors(per_group, 8),
            "outer": ["channels", "rows"],
        }

    def default(self, task: Task, target: Target) -> Config:
        """The tile with the fewest cycles; channels outermost unless the input is larger than its weights."""
        problem = conv_problem(task)
        block = output_block(problem, target)
        rows, columns = problem.out_spatial
        tile = choose_tile(rows, columns, -(-problem.out_group // block), block, target, max_rows=2)
        return {
            "tile_rows": tile.rows,
            "tile_columns": tile.columns,
            "blocks": tile.blocks,
            "outer": outer_loop(problem, target),
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel; its workspace is the padded input."""
        check_config(self.name, config, self.space(task, target))
        problem = conv_problem(task)
        index = problem.weight_operand
        assert index is not None
        block, blocks = output_block(problem, target), int(config["blocks"])

        def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
            x = zero_padded(inputs[0], problem)
            return result(problem, block, blocks, accumulate(problem, block, blocks, x, inputs[1]))

        placeholders, outputs = task.build(anchor, {index: packed_shape(problem, block, blocks)})
        schedule = new_schedule(task, placeholders, outputs)
        tile = (int(config["tile_rows"]), int(config["tile_columns"]))
        schedule_copies(schedule, parallel=True)
        schedule_tile(schedule, problem, block, blocks, tile, str(config["outer"]))
        return Kernel(
            func=schedule.mod["main"],
            pack={index: pack_weight(problem, block, blocks)},
            workspace_bytes=workspace_bytes(problem, task.anchor_inputs[0].shape),
        )


def outer_loop(problem: ConvProblem, target: Target) -> str:
    """`channels` if the weights are larger than the input (they are read once), else `rows`."""
    weights = problem.out_channels * problem.in_group * problem.kernel[0] * problem.kernel[1]
    image = problem.in_channels * problem.padded_extent(0) * problem.padded_extent(1)
    cached = (target.l2_bytes or target.l1_bytes) // 8
    return "channels" if weights >= image or image <= cached else "rows"


def schedule_tile(
    schedule: Schedule, problem: ConvProblem, block: int, blocks: int, tile: tuple[int, int], outer: str
) -> None:
    """Computes the sums of one register tile at a time, and the epilogue on it."""
    out = inline_epilogue(schedule)
    acc = schedule.get_sblock(ACCUMULATE)
    n, o, h, w, *vector = schedule.get_loops(out)
    if vector:
        o, b = schedule.split(o, [None, blocks])
        inner = vector[0]
    else:
        o, b, inner = schedule.split(o, [None, blocks, block])
    h, row = schedule.split(h, [None, tile[0]])
    w, column = schedule.split(w, [None, tile[1]])
    whole_rows = problem.out_spatial[0] % tile[0] == 0
    if not whole_rows:
        order = (n, o)
    else:
        order = (n, o, h) if outer == "channels" else (n, h, o)
    schedule.reorder(*order, *(() if whole_rows else (h,)), w, row, column, b, inner)
    if vector:
        schedule.vectorize(inner)
    for loop in (row, column, b):
        schedule.unroll(loop)
    schedule.compute_at(acc, w, preserve_unit_loops=True)
    for loop in (w,) if whole_rows else (h, w):
        cut_tail(schedule, loop)
    schedule.parallel(schedule.fuse(*order))
    accumulate_in_registers(schedule, reduction=4)


def cut_tail(schedule: Schedule, loop: LoopRV) -> None:
    """Has the last, partial tile of a loop compiled by itself, so that full tiles carry no conditions."""
    schedule.annotate(loop, "pragma_loop_partition_hint", 1)


def accumulate_in_registers(schedule: Schedule, reduction: int) -> None:
    """Orders the loops of the sums as reduction, pixels, channel blocks, vector, all but the first unrolled.

    Blocks vary fastest: each input element is then broadcast once and dies before the next is loaded. The other way
    round, the compiler keeps one register per pixel for the broadcasts and spills the sums. The sums stay in `global`
    scope: TVM puts only that on the stack, whence LLVM puts it in registers; `local` becomes a heap workspace.
    """
    acc = schedule.get_sblock(ACCUMULATE)
    loops = schedule.get_loops(acc)
    reduce_loops = loops[-reduction:]
    b, h, w, v = loops[-reduction - 4 : -reduction]
    schedule.reorder(*reduce_loops, h, w, b, v)
    for loop in (h, w, b):
        schedule.unroll(loop)
    schedule.vectorize(v)
    init = schedule.decompose_reduction(acc, reduce_loops[0])
    h, w, b, v = schedule.get_loops(init)[-4:]
    for loop in (h, w, b):
        schedule.unroll(loop)
    schedule.vectorize(v)
