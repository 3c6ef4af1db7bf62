"""A matrix product on a GPU: tiles of both operands in shared memory, a tile of the result in each thread's registers.

shared left[k, m], right[k, n]  ←  operand elements, zero beyond the matrices
registers acc[m, n]             ←  Σ left[k, m] · right[k, n]
result                          ←  epilogue(acc)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import te, tirx
from tvm.ir import Expr, Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.stmt import SBlock
from tvm.sym import Analyzer

from edgeir.errors import EdgeIRError
from edgeir.schedules import analysis, inlining
from edgeir.schedules.gpu_bit_casts import with_bit_casts
from edgeir.schedules.gpu_stages import bind_stages, gpu_of
from edgeir.schedules.simplify import simplified_indices
from edgeir.schedules.task import AnchorCompute, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyBlock, AnyFunc, AnySchedule, AnyTensor, Expression
from edgeir.targets.target import Target

LEFT, RIGHT, PRODUCT, RESULT = "gemm_left", "gemm_right", "gemm", "gemm_result"

KNOBS: dict[str, tuple[int, ...]] = {
    "threads_m": (4, 8, 16),
    "threads_n": (8, 16, 32),
    "each_m": (1, 2, 4, 8),
    "each_n": (1, 2, 4, 8),
    "depth": (8, 16, 32),
}
"""Threads of a block along rows and columns, results of each thread along both, depth of the shared tiles."""


@dataclass(frozen=True)
class Gemm:
    """`groups` independent products of a (rows, depth) and a (depth, columns) matrix.

    Attributes:
        groups, rows, columns, depth: sizes.
        out_shape: shape of the result, whose leading axes in row-major order are (group, row) and whose others are the
            column.
        row_axes: number of the leading axes.
        dtype: of the operands and the result; float16 is summed in float32.
        left, right: the element (group, row, k) of the left operand, (group, k, column) of the right, given the
            anchor's input tensors.
        total: of the sums and the result where that is another type.
        multiply: what is summed, given an element of each operand, where that is not their plain product.
        along_depth: the operands (`LEFT`, `RIGHT`) whose elements are neighbours in memory along k.
        fragment: side of the squares in which the product lies in memory; 0 for plain rows.
    """

    groups: int
    rows: int
    columns: int
    depth: int
    out_shape: tuple[int, ...]
    row_axes: int
    dtype: str
    left: Callable[[Sequence[te.Tensor], Expression, Expression, Expression], Expression]
    right: Callable[[Sequence[te.Tensor], Expression, Expression, Expression], Expression]
    total: str = ""
    multiply: Callable[[Expression, Expression], Expression] | None = None
    along_depth: tuple[str, ...] = ()
    fragment: int = 0

    def position(self, index: Sequence[Expression]) -> tuple[Expression, Expression, Expression]:
        """Group, row and column of a result."""
        leading = _flat(index[: self.row_axes], self.out_shape[: self.row_axes])
        column = _flat(index[self.row_axes :], self.out_shape[self.row_axes :])
        if self.groups == 1:
            return 0, leading, column
        return leading // self.rows, leading % self.rows, column

    def product_index(self, group: Expression, row: Expression, column: Expression) -> tuple[Expression, ...]:
        """Where a result lies in the product: (group, row, column), or (group, squares, row and column of a square)."""
        side = self.fragment
        if not side:
            return group, row, column
        return group, row // side, column // side, row % side, column % side


def _flat(index: Sequence[Expression], shape: Sequence[int]) -> Expression:
    flat: Expression = 0
    for position, size in zip(index, shape, strict=True):
        flat = flat * size + (position if size > 1 else 0)
    return flat


def default_config(gemm: Gemm, target: Target) -> Config:
    """The largest tile of results that still gives every processor two blocks; small matrices take small tiles."""
    wanted = 2 * gpu_of(target).processors
    limit = gpu_of(target).max_threads
    choices = [(16, 16, 4, 4), (8, 16, 4, 4), (8, 16, 2, 4), (8, 16, 2, 2), (8, 16, 1, 2), (4, 16, 1, 1)]
    choices = [c for c in choices if c[0] * c[1] <= limit]

    def blocks(choice: tuple[int, int, int, int]) -> int:
        tm, tn, em, en = choice
        return gemm.groups * math.ceil(gemm.rows / (tm * em)) * math.ceil(gemm.columns / (tn * en))

    tm, tn, em, en = next((c for c in choices if blocks(c) >= wanted), choices[-2])
    return {"threads_m": tm, "threads_n": tn, "each_m": em, "each_n": en, "depth": 16 if gemm.depth > 8 else 8}


def knob_values(config: Config, space: Mapping[str, Sequence[int]], template: str) -> dict[str, int]:
    """The knobs as numbers.

    Raises:
        EdgeIRError: a knob is missing, unknown or out of its range.
    """
    if set(config) != set(space) or any(config[name] not in values for name, values in space.items()):
        raise EdgeIRError("wrong knobs", where=template, expected=dict(space), got=dict(config))
    return {name: int(value) for name, value in config.items()}


def checked(config: Config, template: str, target: Target) -> dict[str, int]:
    """The knobs as numbers.

    Raises:
        EdgeIRError: a knob is missing, unknown or out of its range, or the block is too large for the target.
    """
    knobs = knob_values(config, KNOBS, template)
    if knobs["threads_m"] * knobs["threads_n"] > gpu_of(target).max_threads:
        raise EdgeIRError(
            "too many threads", where=template, expected=f"at most {gpu_of(target).max_threads}", got=dict(config)
        )
    return knobs


def scheduled_gemm(
    task: Task,
    gemm: Gemm,
    knobs: Mapping[str, int],
    target: Target,
    packed: Mapping[int, tuple[int, ...]] | None = None,
) -> AnyFunc:
    """The task as one tiled kernel, with kernels before and after it for stages that do not fit into it.

    `packed` is the shape of each constant operand that is packed.

    Raises:
        Exception: whatever TVM raises where a transformation does not apply.
    """
    tile_m, tile_n = knobs["threads_m"] * knobs["each_m"], knobs["threads_n"] * knobs["each_n"]
    schedule, final, others = staged_gemm(task, gemm, tile_m, tile_n, knobs["depth"], packed)
    _tile(schedule, final, knobs, gemm.along_depth)
    bind_stages(schedule, target, others)
    return with_bit_casts(schedule.mod["main"], target)


def staged_gemm(
    task: Task,
    gemm: Gemm,
    tile_m: int,
    tile_n: int,
    tile_k: int,
    packed: Mapping[int, tuple[int, ...]] | None = None,
) -> tuple[AnySchedule, str, Sequence[str]]:
    """The task before its loops are tiled: padded operands, product, and the stage that applies the epilogue to it.

    Returns:
        The schedule, the name of the final stage, whose axes are (group, row, column) without the group of a single
        one, and the names of the stages that stay apart.

    Raises:
        Exception: whatever TVM raises where a transformation does not apply.
    """
    return staged_product(task, gemm, lambda inputs: gemm_tensor(gemm, inputs, tile_m, tile_n, tile_k), packed)


def staged_product(
    task: Task,
    gemm: Gemm,
    anchor: AnchorCompute,
    packed: Mapping[int, tuple[int, ...]] | None = None,
    more: Sequence[str] = (),
) -> tuple[AnySchedule, str, Sequence[str]]:
    """As `staged_gemm`, with the stages `LEFT`, `RIGHT`, `PRODUCT` and those named in `more` as `anchor` lays them out.

    Raises:
        Exception: whatever TVM raises where a transformation does not apply.
    """
    stages = (LEFT, RIGHT, PRODUCT, *more)
    placeholders, outputs = task.build(anchor, packed)
    func = te.create_prim_func([*placeholders, *outputs]).with_attr("global_symbol", task.name)
    schedule: AnySchedule = Schedule(simplified_indices(func))
    inlining.inline_injective(schedule, keep=frozenset(stages))
    for name in (LEFT, RIGHT):
        for producer in _injective_producers(schedule, name):
            schedule.compute_inline(producer)
    final = _final_name(schedule, gemm)
    schedule = Schedule(_with_flat_axes(schedule, final, gemm))
    return schedule, final, [n for n in analysis.names(schedule) if n not in (*stages, final)]


def gemm_tensor(gemm: Gemm, inputs: Sequence[te.Tensor], tile_m: int, tile_n: int, tile_k: int) -> te.Tensor:
    """The product as TE stages with every size rounded up to whole tiles."""
    m, n, k = (
        math.ceil(size / tile) * tile
        for size, tile in ((gemm.rows, tile_m), (gemm.columns, tile_n), (gemm.depth, tile_k))
    )
    zero = tirx.const(0, gemm.dtype)

    def guarded(value: Expression, *bounds: tuple[Expression, int, int]) -> Expression:
        inside = [position < size for position, size, padded in bounds if padded > size]
        return tirx.if_then_else(tirx.all(*inside), value, zero) if inside else value

    left: AnyTensor = te.compute(
        (gemm.groups, k, m),
        lambda g, p, i: guarded(gemm.left(inputs, g, i, p), (p, gemm.depth, k), (i, gemm.rows, m)),
        name=LEFT,
    )
    right: AnyTensor = te.compute(
        (gemm.groups, k, n),
        lambda g, p, j: guarded(gemm.right(inputs, g, p, j), (p, gemm.depth, k), (j, gemm.columns, n)),
        name=RIGHT,
    )
    axis = te.reduce_axis((0, k), name="k")
    total = gemm.total or gemm.dtype
    wide = "float32" if total == "float16" else total

    def plain(one: Expression, other: Expression) -> Expression:
        return one.astype(wide) * other.astype(wide)

    multiply = gemm.multiply or plain
    product: AnyTensor = te.compute(
        (gemm.groups, m, n),
        lambda g, i, j: te.sum(multiply(left[g, axis, i], right[g, axis, j]), axis=axis),
        name=PRODUCT,
    )
    result: AnyTensor = te.compute(
        gemm.out_shape, lambda *index: product(*gemm.product_index(*gemm.position(index))).astype(total), name=RESULT
    )
    return result


def _injective_producers(schedule: AnySchedule, name: str) -> list[Any]:
    """Stages that only an operand tile reads, and that can be computed where it reads them."""
    return [
        block
        for block in schedule.get_producers(schedule.get_sblock(name))
        if analysis.is_injective(schedule.get(block)) and len(schedule.get_consumers(block)) == 1
    ]


def _final_name(schedule: AnySchedule, gemm: Gemm) -> str:
    """The only stage that reads the product; it does so at its own position."""
    readers = list(schedule.get_consumers(schedule.get_sblock(PRODUCT)))
    if len(readers) != 1:
        raise EdgeIRError("the product has more than one reader")
    block = schedule.get(readers[0])
    store = analysis.store(block)
    if not analysis.is_injective(block) or tuple(map(int, store.buffer.shape)) != gemm.out_shape:
        raise EdgeIRError("the epilogue has another shape than the product")
    analyzer = Analyzer()
    axes = []
    for axis in block.iter_vars:
        analyzer.bind(axis.var, axis.dom)
        axes.append(axis.var)
    if len(axes) != len(gemm.out_shape):
        raise EdgeIRError("the epilogue has other axes than the product")
    own = gemm.product_index(*gemm.position(axes))
    for access in analysis.loads(block):
        if _is_product(access.buffer) and not all(
            analyzer.can_prove_equal(index, position) for index, position in zip(access.indices, own, strict=True)
        ):
            raise EdgeIRError("the epilogue reads the product elsewhere than at its own position")
    return str(block.name_hint)


def _is_product(buffer: Any) -> bool:
    return str(buffer.name) == PRODUCT


def _with_flat_axes(schedule: AnySchedule, final: str, gemm: Gemm) -> AnyFunc:
    """The function with the final stage's axes as (group, row, column), at which it reads the product.

    A single group has no axis.
    """
    skip = 1 if gemm.groups == 1 else 0

    def flat(*index: Expression) -> list[Expression]:
        group, row, column = gemm.position(index)
        # A single row is the position along an axis of one element.
        return [group, row if isinstance(row, Expr) else index[gemm.row_axes - 1], column][skip:]

    axes = tirx.IndexMap.from_func(flat, ndim=len(gemm.out_shape), index_dtype="int32")
    schedule.transform_block_layout(schedule.get_sblock(final), axes)
    func = schedule.mod["main"]

    def rewrite(block: AnyBlock) -> AnyBlock:
        if str(block.name_hint) != final:
            return block
        axes = [axis.var for axis in block.iter_vars]
        position = [tirx.const(0, axes[0].ty.dtype)] * skip + axes
        own = list(gemm.product_index(*position))

        def load(access: Any) -> Any:
            return tirx.BufferLoad(access.source, own) if _is_product(access.source) else access

        body = tvm_ffi.structural_map(block.body, ((TensorLoad, load),))
        reads = [
            type(region)(
                region.source, [Range.from_min_extent(v, tirx.const(1, axes[0].ty.dtype)) for v in own], region.ty
            )
            if _is_product(region.source)
            else region
            for region in block.reads
        ]
        return SBlock(
            list(block.iter_vars), reads, list(block.writes), block.name_hint, body, block.init,
            list(block.alloc_buffers), list(block.match_buffers), dict(block.annotations),
        )  # fmt: skip

    return tvm_ffi.structural_map(func, ((SBlock, rewrite),))


def _tile(schedule: AnySchedule, final: str, knobs: Mapping[str, int], along_depth: Sequence[str]) -> None:
    output, product = schedule.get_sblock(final), schedule.get_sblock(PRODUCT)
    *group, row, column = schedule.get_loops(output)
    rows = schedule.split(row, factors=[None, knobs["threads_m"], knobs["each_m"]])
    # A thread's columns are `threads_n` apart, so that neighbouring threads read neighbouring words of shared memory.
    columns = schedule.split(column, factors=[None, knobs["each_n"], knobs["threads_n"]])
    schedule.reorder(*group, rows[0], columns[0], columns[1], rows[1], columns[2], rows[2])
    schedule.bind(schedule.fuse(*group, rows[0], columns[0]), "blockIdx.x")
    schedule.bind(columns[1], "vthread.x")
    schedule.bind(rows[1], "threadIdx.y")
    schedule.bind(columns[2], "threadIdx.x")
    schedule.set_scope(product, 0, "local")
    schedule.compute_at(product, columns[2])
    depth = len(schedule.get_loops(output)) - 1
    own = schedule.get_loops(product)[depth:]
    steps = schedule.split(own[-1], factors=[None, knobs["depth"]])
    schedule.reorder(*steps, *own[:-1])
    for name in (LEFT, RIGHT):
        tile = schedule.get_sblock(name)
        schedule.set_scope(tile, 0, "shared")
        schedule.compute_at(tile, steps[0])
        if name in along_depth:
            schedule.reorder(*schedule.get_loops(tile)[-1:-3:-1])  # neighbouring threads read along a row
        loops = schedule.get_loops(tile)[depth + 1 :]
        fetch = schedule.fuse(*loops)
        threads = [None, knobs["threads_m"], knobs["threads_n"]]
        _, y, x = schedule.split(fetch, factors=threads)
        schedule.bind(y, "threadIdx.y")
        schedule.bind(x, "threadIdx.x")
    schedule.decompose_reduction(product, steps[0])
    schedule.unroll(steps[1])
