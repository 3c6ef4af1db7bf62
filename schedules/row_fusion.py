"""Schedules any graph of TE stages: inline what is injective, keep each row in cache, vectorise, use the cores.

A *row axis* of the output is one along which every stage can be computed piece by piece without repeating work: for
softmax over the last axis, all axes but the last. All stages of a row run before the next row starts.
"""

from __future__ import annotations

import logging
from typing import Any

from tvm.s_tir import Schedule

from edgeir.schedules import analysis, inlining, loops
from edgeir.schedules.simplify import linear_accesses, simplified_indices
from edgeir.schedules.stage_knobs import DEFAULT, StageKnobs
from edgeir.schedules.tails import apply_lane_bounds, apply_overlaps, overlap_tail
from edgeir.schedules.tir_types import AnyFunc, AnySchedule
from edgeir.schedules.vector_math import hoisted_divisions, vectorizable_math
from edgeir.targets.target import Target

_LOGGER = logging.getLogger(__name__)


def _output_name(schedule: AnySchedule) -> str | None:
    """The only output block, or None where there are several."""
    outputs = schedule.get_output_blocks(schedule.get_sblock("root"))
    return str(schedule.get(outputs[0]).name_hint) if len(outputs) == 1 else None


def _spatial_loops(schedule: AnySchedule, block: Any) -> list[Any]:
    kinds = analysis.loop_kinds(schedule, block)
    return [loop for loop, kind in zip(schedule.get_loops(block), kinds, strict=True) if kind == "spatial"]


def _producers(schedule: AnySchedule, output: str) -> list[Any]:
    """All other blocks, readers before what they read."""
    return [block for block in reversed(analysis.blocks(schedule)) if schedule.get(block).name_hint != output]


def _can_split_rows(func: AnyFunc, output: str, axis: int) -> bool:
    """Whether all stages can follow the output's axis without computing anything twice."""
    schedule: AnySchedule = Schedule(func)
    block = schedule.get_sblock(output)
    row_loop = _spatial_loops(schedule, block)[axis]
    producers = _producers(schedule, output)
    before = [analysis.iterations(schedule, producer) for producer in producers]
    try:
        schedule.reorder(row_loop, *[loop for loop in schedule.get_loops(block) if not _same(schedule, loop, row_loop)])
        for producer in producers:
            schedule.compute_at(producer, row_loop)
        after = [analysis.iterations(schedule, producer) for producer in producers]
    except Exception:  # not a row axis: a stage has another shape, or needs a part whose size changes with the row
        return False
    return all(new <= old for new, old in zip(after, before, strict=True))


def _same(schedule: AnySchedule, left: Any, right: Any) -> bool:
    return bool(schedule.get(left).same_as(schedule.get(right)))


def row_axes(func: AnyFunc, output: str) -> list[int]:
    """The row axes of the output block, as positions among its spatial loops.

    Axes of length 1 are left out where there are others. Alone, one of them is a loop to put the stages of the only
    row under.
    """
    schedule: AnySchedule = Schedule(func)
    spatial = _spatial_loops(schedule, schedule.get_sblock(output))
    units = [axis for axis, loop in enumerate(spatial) if analysis.extent(schedule, loop) == 1]
    long = [axis for axis in range(len(spatial)) if axis not in units and _can_split_rows(func, output, axis)]
    return long or [axis for axis in units[:1] if axis < len(spatial) - 1 and _can_split_rows(func, output, axis)]


def _place_rows(schedule: AnySchedule, output: str, axes: list[int], lanes: int, vectors: int) -> list[Any]:
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
            vectors = vectors or next((n for n in (4, 2) if length % (n * lanes) == 0), 1)
            factor = min(vectors, length // lanes) * lanes
            outer, piece = schedule.split(rows[-1], factors=[None, factor])
            rows[-1], inner = outer, [piece]
            if length % factor:
                overlap_tail(schedule, outer, length)
    if not rows:
        return []
    schedule.reorder(*rows, *rest, *inner)
    for producer in _producers(schedule, output):
        schedule.compute_at(producer, rows[-1])
    return rows


def _finish(schedule: AnySchedule, block: Any, depth: int, target: Target, cycles: float, knobs: StageKnobs) -> None:
    """Vectorises one block below its first `depth` loops, and spreads it over the cores if it stands alone."""
    if analysis.is_reduction(schedule.get(block)):
        loops.reduce_vectors(schedule, block, depth, target, cycles, knobs)
    else:
        loops.vectorize_spatial(schedule, block, depth, target)
        if depth == 0:
            loops.parallelize(schedule, _spatial_loops(schedule, block), cycles, target, knobs)


def schedule_stages(func: AnyFunc, target: Target, knobs: StageKnobs = DEFAULT) -> AnyFunc:
    """The function, scheduled for a CPU.

    Raises:
        Exception: whatever TVM raises where a transformation does not apply; see `scheduled_or_plain`.
    """
    schedule: AnySchedule = Schedule(simplified_indices(hoisted_divisions(func)))
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
    by_lanes = [name for name in names if loops.lane_reduction(schedule, schedule.get_sblock(name), target, knobs)]
    if output is not None and len(names) == 1 and by_lanes:
        axes = list(range(len(_spatial_loops(schedule, schedule.get_sblock(output)))))
    members = analysis.blocks(schedule)
    rows: list[Any] = []
    if axes and output is not None:
        rows = _place_rows(schedule, output, axes, 1 if by_lanes else target.lanes(), knobs.row_vectors)
    depth = len(rows)
    if rows:
        depth -= loops.parallelize(schedule, rows, sum(cycles.values()), target, knobs)
    for block in members:
        name = str(schedule.get(block).name_hint)
        _finish(schedule, block, depth, target, cycles.get(name, 0.0), knobs)
    return vectorizable_math(apply_lane_bounds(linear_accesses(apply_overlaps(schedule.mod["main"]))))


def schedule_plainly(func: AnyFunc) -> AnyFunc:
    """The function as it is, but for the mathematical functions: correct for everything, left to LLVM to vectorise."""
    return vectorizable_math(func)


def scheduled_or_plain(func: AnyFunc, target: Target, knobs: StageKnobs = DEFAULT) -> AnyFunc:
    """The function, scheduled; as it is, with a warning, where a transformation does not apply to it."""
    try:
        return schedule_stages(func, target, knobs)
    except Exception as error:  # every schedule primitive raises its own types; a slower kernel is better than none
        warn_unscheduled(_LOGGER, func, "its loops run as they are written", error)
        return schedule_plainly(func)


def warn_unscheduled(logger: logging.Logger, func: AnyFunc, consequence: str, error: Exception) -> None:
    """Logs that a schedule does not apply to a kernel: it runs, but may be slow."""
    name = (func.attrs or {}).get("global_symbol", "a kernel")
    logger.warning("%s: the schedule does not apply, %s (%s)", name, consequence, summary(error))


def summary(error: Exception) -> str:
    """The error's type and the last line that it says; TVM puts the reason there, below a dump of the function."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__
