"""Replaces the loops of a register tile of depthwise sums by straight-line code with dot products of taps.

Where the epilogue adds a number for each channel (a bias, or what a zero point adds), the sums start with it instead.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlock, SBlockRealize
from tvm.sym import Analyzer

from edgeir.schedules import analysis
from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import PAD
from edgeir.schedules.integer_depthwise_intrinsics import TapDot
from edgeir.schedules.integer_depthwise_stages import in_filled_groups
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

    (marked,) = [node for node in analysis.nodes(func.body) if isinstance(node, tirx.For) and _TILE in node.annotations]
    sums: Any = next(node.buffer for node in analysis.nodes(marked) if isinstance(node, tirx.BufferStore))
    start = _added_by_channel(func, sums, marked)

    def rewrite(loop: Any) -> Any:
        return _tile(loop, problem, dot, start) if _TILE in loop.annotations else loop

    def without(addition: Any) -> Any:
        parts = (addition.a, addition.b)
        read = next((part for part in parts if _reads(part, sums)), None)
        return (
            read if start is not None and read is not None and _same_load(_other(parts, read), start[0]) else addition
        )

    changed = tvm_ffi.structural_map(func, ((tirx.For, rewrite),))
    return tvm_ffi.structural_map(changed, ((tirx.Add, without),))


def _reads(value: Any, buffer: Any) -> bool:
    return isinstance(value, TensorLoad) and value.source.same_as(buffer)


def _other(parts: tuple[Any, Any], one: Any) -> Any:
    return parts[1] if parts[0] is one else parts[0]


def _same_load(value: Any, load: Any) -> bool:
    return isinstance(value, TensorLoad) and bool(tvm_ffi.structural_equal(value, load))


def _added_by_channel(func: Any, sums: Any, tile: Any) -> tuple[Any, list[Any]] | None:
    """(load, indices of the sum) of the number that the epilogue adds to a sum wherever it reads one, or None.

    The load's index is contiguous along the lanes, and is the same for all pixels.
    """
    everything = list(analysis.nodes(func.body))
    inner = sum(_reads(node, sums) for node in analysis.nodes(tile))
    found: list[tuple[Any, list[Any]]] = []
    for node in everything:
        if isinstance(node, tirx.Add):
            parts = (node.a, node.b)
            read: Any = next((part for part in parts if _reads(part, sums)), None)
            added: Any = None if read is None else _other(parts, read)
            if not isinstance(added, TensorLoad) or _reads(added, sums):
                continue
            buffer: Any = added.source
            if read is not None and str(buffer.dtype) == "int32":
                found.append((added, list(read.indices)))
    if not found or sum(_reads(node, sums) for node in everything) != inner + len(found):
        return None
    load, at = found[0]
    if not all(_same_load(other, load) for other, _ in found) or not all(isinstance(i, tirx.Var) for i in at[1:]):
        return None
    *outer, last = load.indices
    lane = at[-1]
    one: Any = tirx.const(1, "int32")
    following = _replaced(last, {lane: lane + one}) - last
    if any(analysis.uses(index, pixel) for index in load.indices for pixel in at[2:4]):
        return None
    if any(analysis.uses(index, lane) for index in outer) or not Analyzer().can_prove_equal(following, one):
        return None
    return load, at


def _tile(loop: Any, problem: ConvProblem, dot: TapDot, start: tuple[Any, list[Any]] | None) -> Any:
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
    (x,) = [load for load in inputs if load.source.name == PAD]
    (w,) = [load for load in inputs if load is not x]
    at = [[_replaced(index, starts) for index in node.indices] for node in (x, w, store)]
    rows, columns = (int(loop.extent) for loop in loops[:2])
    first: Any = None
    if start is not None:
        load, sum_at = start
        *outer, last = [_replaced(index, dict(zip(sum_at[1:], at[2][1:], strict=True))) for index in load.indices]
        first = tirx.BufferLoad(load.source, [*outer, _ramp(dot.block, last)])
    body = _straight_line(problem, dot, (x.source, w.source, store.buffer), at, (rows, columns), first)
    high = (rows - 1) * problem.strides[0] + (problem.kernel[0] - 1) * problem.dilations[0] + 1
    wide = (columns - 1) * problem.strides[1] + dot.taps * tap_groups(problem, dot.taps)
    reads = [
        _region(x.source, at[0], (1, 1, high, wide, dot.block)),
        _region(w.source, at[1], (1, *(int(extent) for extent in w.source.shape[1:]))),
    ]
    if first is not None:
        reads.append(_region(first.source, [_zero()] * len(first.source.shape), tuple(first.source.shape)))
    writes = [_region(store.buffer, at[2], (1, 1, rows, columns, dot.block))]
    return SBlockRealize([], tirx.const(True, "bool"), SBlock([], reads, writes, block.name_hint, body))


def _straight_line(
    problem: ConvProblem,
    dot: TapDot,
    buffers: tuple[Any, Any, Any],
    at: list[list[Any]],
    tile: tuple[int, int],
    first: Any,
) -> Any:
    x, w, acc = buffers
    statements: list[Any] = []

    def named(name: str, value: Any) -> Any:
        variable = tirx.Var(name, value.ty)
        statements.append(tirx.Bind(variable, value))
        return variable

    groups = tap_groups(problem, dot.taps)
    plan = gathers(problem, dot.taps, *tile)
    weights: dict[tuple[int, int], list[Any]] = {}
    for r, shift in sorted({(use.kernel_row, use.shift) for gather in plan for use in gather.uses}):
        loaded = [_weights(problem, dot, w, at[1][0], r, group) for group in range(groups)]
        weights[r, shift] = [named(f"w{r}_{shift}", value) for value in dot.weights(loaded, shift)]
    start = None if first is None else named("start", first)
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
            total = dot.add(sums.get(place, start), taps, weights[use.kernel_row, use.shift][use.group])
            left[place] -= 1
            if left[place]:
                sums[place] = named("sum", total)
                continue
            to = [*at[2][:2], at[2][2] + use.row, at[2][3] + use.column, _ramp(dot.block)]
            statements.append(tirx.BufferStore(acc, total, to))
    return tirx.SeqStmt(statements)


def _weights(problem: ConvProblem, dot: TapDot, w: Any, block: Any, row: int, group: int) -> Any:
    """Weights of a group of taps of a kernel row, (block, taps), zeros beyond the row.

    As many taps as a group has are loaded at once, the last ones of the kernel where fewer follow.
    """
    if in_filled_groups(problem, dot):
        return _load(w, [block, row, group, 0], dot.bytes)
    width = problem.kernel[1]
    first = row * width + group * dot.taps
    start = min(first, problem.kernel[0] * width - dot.taps)
    loaded = _load(w, [block, start // width, start % width], dot.bytes)
    return dot.weight_group(loaded, first - start, min(dot.taps, width - group * dot.taps))


def _load(buffer: Any, outer: list[Any], count: int) -> Any:
    indices = [tirx.const(index, "int32") if isinstance(index, int) else index for index in outer]
    return tirx.BufferLoad(buffer, [*indices, _ramp(count)])


def _zero() -> Any:
    return tirx.const(0, "int32")


def _ramp(count: int, start: Any = None) -> Any:
    lanes: Any = count
    return tirx.Ramp(_zero() if start is None else start, tirx.const(1, "int32"), lanes)


def _region(buffer: Any, start: list[Any], extents: tuple[Any, ...]) -> Any:
    sizes: list[Any] = list(extents)
    ranges = [Range.from_min_extent(index, size) for index, size in zip(start, sizes, strict=True)]
    return tirx.BufferRegion(buffer, ranges)


def _replaced(expression: Any, values: dict[Any, Any]) -> Any:
    def replace(variable: Any) -> Any:
        for other, value in values.items():
            if variable.same_as(other):
                return value
        return variable

    return tvm_ffi.structural_map(expression, ((tirx.Var, replace),))
