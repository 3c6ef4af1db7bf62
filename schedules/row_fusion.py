"""Schedules any graph of TE stages: inline what is injective, keep each row in cache, vectorise, use the cores.

A *row axis* of the output is one along which every stage can be computed piece by piece without repeating work: for
softmax over the last axis, all axes but the last. All stages of a row run before the next row starts.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from edgeir.schedules import analysis, inlining, loops
from edgeir.schedules.vector_math import vectorizable_math
from edgeir.targets.target import Target


def _output_name(schedule: Schedule) -> str | None:
    """The only output block, or None where there are several."""
    outputs = schedule.get_output_blocks(schedule.get_sblock("root"))
    return str(schedule.get(outputs[0]).name_hint) if len(outputs) == 1 else None


def _spatial_loops(schedule: Schedule, block: Any) -> list[Any]:
    kinds = analysis.loop_kinds(schedule, block)
    return [loop for loop, kind in zip(schedule.get_loops(block), kinds, strict=True) if kind == "spatial"]


def _producers(schedule: Schedule, output: str) -> list[str]:
    """All other blocks, readers before what they read."""
    return [name for name in reversed(analysis.names(schedule)) if name != output]


def _can_split_rows(func: tirx.PrimFunc, output: str, axis: int) -> bool:
    """Whether all stages can follow the output's axis without computing anything twice."""
    schedule = Schedule(func)
    block = schedule.get_sblock(output)
    row_loop = _spatial_loops(schedule, block)[axis]
    producers = _producers(schedule, output)
    before = {name: analysis.iterations(schedule, schedule.get_sblock(name)) for name in producers}
    try:
        schedule.reorder(row_loop, *[loop for loop in schedule.get_loops(block) if not _same(schedule, loop, row_loop)])
        for name in producers:
            schedule.compute_at(schedule.get_sblock(name), row_loop)
    except Exception:
        return False
    return all(analysis.iterations(schedule, schedule.get_sblock(name)) <= before[name] for name in producers)


def _same(schedule: Schedule, left: Any, right: Any) -> bool:
    return bool(schedule.get(left).same_as(schedule.get(right)))


def row_axes(func: tirx.PrimFunc, output: str) -> list[int]:
    """The row axes of the output block, as positions among its spatial loops; unit axes are left out."""
    schedule = Schedule(func)
    spatial = _spatial_loops(schedule, schedule.get_sblock(output))
    return [
        axis
        for axis, loop in enumerate(spatial)
        if analysis.extent(schedule, loop) > 1 and _can_split_rows(func, output, axis)
    ]


def _place_rows(schedule: Schedule, output: str, axes: list[int], lanes: int) -> list[Any]:
    """Moves all stages under the row loops of the output. Returns the row loops, outermost first."""
    block = schedule.get_sblock(output)
    all_loops = list(schedule.get_loops(block))
    spatial = _spatial_loops(schedule, block)
    rows = [spatial[axis] for axis in axes]
    rest = [loop for loop in all_loops if not any(_same(schedule, loop, row) for row in rows)]
    inner: list[Any] = []
    if lanes > 1 and axes[-1] == len(spatial) - 1 and analysis.extent(schedule, rows[-1]) > 1:
        # The contiguous axis is a row axis: a piece of a few vectors is the row.
        length = analysis.extent(schedule, rows[-1])
        if length <= lanes:
            inner = [rows.pop()]
        else:
            factor = next((n for n in (4, 2) if length % (n * lanes) == 0), 1) * lanes
            outer, piece = schedule.split(rows[-1], factors=[None, factor])
            rows[-1], inner = outer, [piece]
            if length % factor:
                loops.partition_tail(schedule, outer)
    if not rows:
        return []
    schedule.reorder(*rows, *rest, *inner)
    for name in _producers(schedule, output):
        schedule.compute_at(schedule.get_sblock(name), rows[-1])
    return rows


def _finish(schedule: Schedule, name: str, depth: int, target: Target) -> None:
    block = schedule.get_sblock(name)
    body = schedule.get(block)
    if analysis.is_reduction(body):
        loops.reduce_vectors(schedule, block, depth, target)
    else:
        loops.vectorize_spatial(schedule, block, depth, target)


def _parallelize_block(schedule: Schedule, name: str, depth: int, cycles: float, target: Target) -> None:
    block = schedule.get_sblock(name)
    kinds = analysis.loop_kinds(schedule, block)
    outer = []
    for loop, kind in zip(schedule.get_loops(block), kinds, strict=True):
        if kind != "spatial" or (depth and len(outer) == depth):
            break
        outer.append(loop)
    loops.parallelize(schedule, outer, cycles, target)


def schedule_stages(func: tirx.PrimFunc, target: Target) -> tirx.PrimFunc:
    """The function, scheduled for a CPU.

    Raises:
        tvm.error.TVMError: where a transformation does not apply; `schedule_plainly` always does.
    """
    schedule = Schedule(func)
    names = analysis.names(schedule)
    every = [schedule.get(schedule.get_sblock(name)) for name in names]
    if not names or not all(analysis.is_plain(block) for block in every) or len(set(names)) < len(names):
        return schedule_plainly(func)
    if any(analysis.iterations(schedule, schedule.get_sblock(name)) == 0 for name in names):
        return schedule_plainly(func)
    inlining.inline_injective(schedule)
    names = analysis.names(schedule)
    output = _output_name(schedule)
    cycles = {name: loops.work(schedule, schedule.get_sblock(name), target) for name in names}
    inlined = schedule.mod["main"]
    axes = row_axes(inlined, output) if output is not None and len(names) > 1 else []
    by_lanes = [name for name in names if loops.lane_reduction(schedule, schedule.get_sblock(name), target)]
    if output is not None and len(names) == 1 and by_lanes:
        axes = list(range(len(_spatial_loops(schedule, schedule.get_sblock(output)))))
    rows: list[Any] = []
    if axes and output is not None:
        rows = _place_rows(schedule, output, axes, 1 if by_lanes else target.lanes())
    for name in analysis_names(schedule):
        depth = len(rows)
        _finish(schedule, name, depth, target)
    if rows and output is not None:
        _parallelize_block(schedule, output, len(rows), sum(cycles.values()), target)
    else:
        for name in analysis_names(schedule):
            if name in cycles:
                _parallelize_block(schedule, name, 0, cycles[name], target)
    return vectorizable_math(schedule.mod["main"])


def analysis_names(schedule: Schedule) -> list[str]:
    """Names of all blocks at any depth, in program order, without the initialisations that decomposition adds."""
    found: list[str] = []
    for node in analysis.nodes(schedule.mod["main"].body):
        if type(node).__name__ == "SBlock" and str(node.name_hint) != "root":
            found.append(str(node.name_hint))
    return found


def schedule_plainly(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function as it is, but for the mathematical functions: correct for everything, left to LLVM to vectorise."""
    return vectorizable_math(func)
