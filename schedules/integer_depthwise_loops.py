"""Replaces the loops of a register tile of depthwise sums by straight-line code with dot products of taps."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlock, SBlockRealize

from edgeir.schedules import analysis
from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.integer_depthwise_intrinsics import TapDot
from edgeir.schedules.integer_depthwise_tile import gathers, tap_groups
from edgeir.schedules.tir_types import AnyFunc, AnySchedule

_TILE = "edgeir.tap_tile"
"""Loop annotation: the outermost loop of a tile's sums, around columns, lanes and the reduction."""


def mark_tile(schedule: AnySchedule, loop: Any) -> None:
    """Marks the loop over the rows of a tile of sums, around those over columns, lanes, and the kernel's taps."""
    schedule.annotate(loop, _TILE, 1)


def with_tap_products(func: AnyFunc, problem: ConvProblem, dot: TapDot) -> AnyFunc:
    """The function with its marked loops replaced.

    Raises:
        ValueError: a marked loop is not the sums of one tile.
    """

    def rewrite(loop: Any) -> Any:
        return _tile(loop, problem, dot) if _TILE in loop.annotations else loop

    return tvm_ffi.structural_map(func, ((tirx.For, rewrite),))


def _tile(loop: Any, problem: ConvProblem, dot: TapDot) -> Any:
    loops, statement = [], loop
    while isinstance(statement, tirx.For):
        loops.append(statement)
        statement = statement.body
    if not isinstance(statement, SBlockRealize) or not isinstance(statement.block.body, tirx.BufferStore):
        raise ValueError("a tile of sums does not hold one block")
    realize: Any = statement
    if not isinstance(realize.predicate, tirx.IntImm) or not realize.predicate.value:
        raise ValueError("a tile of sums has bounds tests")
    block, store = realize.block, realize.block.body
    zero = {loop.loop_var: tirx.const(0, "int32") for loop in loops}
    starts = {
        axis.var: _replaced(value, zero) for axis, value in zip(block.iter_vars, realize.iter_values, strict=True)
    }
    found: list[Any] = [node for node in analysis.nodes(store.value) if isinstance(node, TensorLoad)]
    inputs = [load for load in found if not load.source.same_as(store.buffer)]
    (w,) = [load for load in inputs if str(load.source.dtype) == "int8" and len(load.source.shape) == 5
            and int(load.source.shape[-1]) == dot.taps and int(load.source.shape[-2]) == dot.block]
    (x,) = [load for load in inputs if load is not w]
    at = [[_replaced(index, starts) for index in node.indices] for node in (x, w, store)]
    rows, columns = (int(loop.extent) for loop in loops[:2])
    body = _straight_line(problem, dot, (x.source, w.source, store.buffer), at, rows, columns)
    high = (rows - 1) * problem.strides[0] + (problem.kernel[0] - 1) * problem.dilations[0] + 1
    wide = (columns - 1) * problem.strides[1] + dot.taps * tap_groups(problem, dot.taps)
    reads = [
        _region(x.source, at[0], (1, 1, high, wide, dot.block)),
        _region(w.source, at[1], (1, *(int(extent) for extent in w.source.shape[1:]))),
    ]
    writes = [_region(store.buffer, at[2], (1, 1, rows, columns, dot.block))]
    return SBlockRealize([], tirx.const(True, "bool"), SBlock([], reads, writes, block.name_hint, body))


def _straight_line(
    problem: ConvProblem, dot: TapDot, buffers: tuple[Any, Any, Any], at: list[list[Any]], rows: int, columns: int
) -> Any:
    x, w, acc = buffers
    statements: list[Any] = []

    def named(name: str, value: Any) -> Any:
        variable = tirx.Var(name, value.ty)
        statements.append(tirx.Bind(variable, value))
        return variable

    groups = tap_groups(problem, dot.taps)
    plan = gathers(problem, dot.taps, rows, columns)
    weights: dict[tuple[int, int], list[Any]] = {}
    for r, shift in sorted({(use.kernel_row, use.shift) for gather in plan for use in gather.uses}):
        loaded = [_load(w, [at[1][0], r, group, 0], dot.bytes) for group in range(groups)]
        weights[r, shift] = [named(f"w{r}_{shift}", value) for value in dot.weights(loaded, shift)]
    sums: dict[tuple[int, int], Any] = {}
    left: dict[tuple[int, int], int] = {}
    for gather in plan:
        for use in gather.uses:
            left[use.row, use.column] = left.get((use.row, use.column), 0) + 1
    n, k, h, q, _ = at[0]
    for gather in plan:
        taps = named("taps", dot.gather(_load(x, [n, k, h + gather.row, q + gather.column], dot.bytes)))
        for use in gather.uses:
            place = (use.row, use.column)
            total = dot.add(sums.get(place), taps, weights[use.kernel_row, use.shift][use.group])
            left[place] -= 1
            if left[place]:
                sums[place] = named("sum", total)
                continue
            to = [*at[2][:2], at[2][2] + use.row, at[2][3] + use.column, _ramp(dot.block)]
            statements.append(tirx.BufferStore(acc, total, to))
    return tirx.SeqStmt(statements)


def _load(buffer: Any, outer: list[Any], count: int) -> Any:
    indices = [tirx.const(index, "int32") if isinstance(index, int) else index for index in outer]
    return tirx.BufferLoad(buffer, [*indices, _ramp(count)])


def _ramp(count: int) -> Any:
    lanes: Any = count
    return tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), lanes)


def _region(buffer: Any, start: list[Any], extents: tuple[int, ...]) -> Any:
    ranges = [Range.from_min_extent(index, extent) for index, extent in zip(start, extents, strict=True)]
    return tirx.BufferRegion(buffer, ranges)


def _replaced(expression: Any, values: dict[Any, Any]) -> Any:
    def replace(variable: Any) -> Any:
        for other, value in values.items():
            if variable.same_as(other):
                return value
        return variable

    return tvm_ffi.structural_map(expression, ((tirx.Var, replace),))
