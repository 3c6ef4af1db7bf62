"""Loop transformations that every CPU template shares: vector loops without a ragged cliff, reductions, threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from edgeir.schedules import analysis
from edgeir.schedules.simplify import LINEAR
from edgeir.schedules.stage_knobs import DEFAULT, StageKnobs
from edgeir.schedules.tails import LANE_BOUND, OVERLAP, bound_lanes, overlap_tail, partition_tail
from edgeir.schedules.tir_types import AnyBlock, AnySchedule
from edgeir.targets.target import Target

# Threads that wait actively are handed work in about a microsecond; below this many cycles it does not pay.
_PARALLEL_CYCLES = 10_000
# From this many vectors on, a row reduction keeps several accumulators, to hide the latency of an addition.
_LONG_ROW_VECTORS = 32
# Up to so many vectors of results are computed at once without a loop over them.
_WHOLE_VECTORS = 4
# Shorter sides of a transposed matrix fit a cache line or two: nothing to tile.
_TILED_TRANSPOSE = 32
# Partial results that are added up one after the other.
_LAST_LANES = 4
# Neighbouring elements that are copies of one another, up to so many.
_REPEATS = 8


def vectorize(schedule: AnySchedule, loop: Any, width: int) -> tuple[Any | None, Any]:
    """Makes vectors of `width` elements of the loop.

    Returns:
        The loop over the vectors (None where one vector holds the whole loop) and the vector loop.
    """
    length = analysis.extent(schedule, loop)
    if length <= width:
        schedule.vectorize(loop)
        return None, loop
    outer, inner = schedule.split(loop, factors=[None, width])
    schedule.vectorize(inner)
    if length % width:
        overlap_tail(schedule, outer, length)
    return outer, inner


def _linear_in(access: analysis.Access, axes: Sequence[tirx.Var], extents: Sequence[int]) -> bool:
    """Whether the access ignores all the axes, or walks them as one contiguous run."""
    if not any(analysis.uses(index, axis) for index in access.indices for axis in axes):
        return True
    if analysis.trailing_axes_in_order(access, axes) < len(axes):
        return False
    inner_shape = [int(d) for d in access.buffer.shape[len(access.buffer.shape) - len(axes) + 1 :]]
    return inner_shape == list(extents[1:])


def fusible(block: AnyBlock, axes: Sequence[tirx.Var], extents: Sequence[int], accesses: list[analysis.Access]) -> int:
    """How many of the last axes every access treats as one contiguous run."""
    count = 1
    for candidate in range(2, len(axes) + 1):
        if all(_linear_in(access, axes[-candidate:], extents[-candidate:]) for access in accesses):
            count = candidate
    return count


def vectorize_spatial(schedule: AnySchedule, block: Any, depth: int, target: Target) -> None:
    """Vectorises a block that computes each element by itself, below its first `depth` loops.

    Neighbouring loops are fused where every access is contiguous across them. A loop whose body tests its own index
    (padding, concatenation) is cut where the tests change instead.
    """
    body = schedule.get(block)
    loops = list(schedule.get_loops(block))[depth:]
    if not loops or not analysis.is_plain(body) or not body.body.indices:
        return
    accesses = [*analysis.loads(body), analysis.store(body)]
    axes = [axis.var for axis in body.iter_vars]
    if depth == 0 and len(loops) == len(axes) > 1:
        count = fusible(body, axes, [analysis.extent(schedule, loop) for loop in loops], accesses)
        tested = any(analysis.branches_on(body, axis) for axis in axes[-count:])
        if count > 1 and not tested:
            loops[-count:] = [schedule.fuse(*loops[-count:])]
            schedule.annotate(block, LINEAR, count)
    last = loops[-1]
    moving = _axes_of_loop(schedule, block, last)
    if not any(analysis.uses(body.body.indices[-1], axis) for axis in moving):
        return
    tested_axes = [axis for axis in axes if analysis.branches_on(body, axis)]
    if any(axis.same_as(other) for axis in moving for other in tested_axes):
        # TVM 0.27 cuts a loop in the wrong place where the test also depends on a loop around it.
        if schedule.get(last).kind == tirx.ForKind.SERIAL and not analysis.branches_jointly(body, axes):
            partition_tail(schedule, last)
        return
    width = target.lanes(analysis.element_bits(body))
    if width < 2 or analysis.extent(schedule, last) < 2 or not analysis.has_vector_dtypes(body):
        return
    repeat, period = _repetition(accesses[:-1], moving)
    if repeat > 1 and analysis.extent(schedule, last) % repeat == 0:
        # One element read, several written side by side: LLVM makes vectors of that; TVM would gather.
        schedule.unroll(schedule.split(last, factors=[None, repeat])[1])
        return
    if period > 1 and analysis.extent(schedule, last) % period == 0:
        vectorize(schedule, schedule.split(last, factors=[None, period])[1], width)
        return
    if depth == 0 and len(loops) == len(axes):
        crossed = _crossed_axis(accesses, axes)
        if crossed is not None and _tile_transpose(schedule, loops, crossed, width):
            return
    vectorize(schedule, last, width)


def _repetition(accesses: list[analysis.Access], axes: Sequence[tirx.Var]) -> tuple[int, int]:
    """For reads at `axis // c` a small c, for reads at `axis % c` that c; 1 where there is none."""
    repeats, periods = {1}, {1}
    for node in (node for access in accesses for index in access.indices for node in analysis.nodes(index)):
        if not isinstance(node, (tirx.FloorDiv, tirx.FloorMod)) or not isinstance(node.b, tirx.IntImm):
            continue
        if any(isinstance(node.a, tirx.Var) and node.a.same_as(axis) for axis in axes):
            (repeats if isinstance(node, tirx.FloorDiv) else periods).add(int(node.b))
    repeat, period = max(repeats), max(periods)
    return (repeat if len(repeats) == 2 and repeat <= _REPEATS and period == 1 else 1), (
        period if len(periods) == 2 and repeat == 1 else 1
    )


def _crossed_axis(accesses: list[analysis.Access], axes: Sequence[tirx.Var]) -> int | None:
    """The axis, not the last, along which some input is contiguous: the block transposes it."""
    for access in accesses[:-1]:
        contiguous = analysis.contiguous_axis(access, axes)
        if contiguous is not None and any(analysis.uses(index, axes[-1]) for index in access.indices):
            position = next(i for i, axis in enumerate(axes) if axis.same_as(contiguous))
            if position != len(axes) - 1:
                return position
    return None


def _tile_transpose(schedule: AnySchedule, loops: list[Any], crossed: int, width: int) -> bool:
    """Walks square tiles, so that every cache line read serves a whole tile. Returns whether it is worth it."""
    last, other = loops[-1], loops[crossed]
    if min(analysis.extent(schedule, last), analysis.extent(schedule, other)) < _TILED_TRANSPOSE:
        return False
    outer, lanes = vectorize(schedule, last, width)
    length = analysis.extent(schedule, other)
    tiles, inner = schedule.split(other, factors=[None, width])
    if length % width:
        overlap_tail(schedule, tiles, length)
    rest = [loop for position, loop in enumerate(loops[:-1]) if position != crossed]
    schedule.reorder(*rest, *([outer] if outer is not None else []), tiles, inner, lanes)
    return True


def _axes_of_loop(schedule: AnySchedule, block: Any, loop: Any) -> list[tirx.Var]:
    binding = analysis.realize(schedule, block)
    if binding is None:
        return []
    variable = schedule.get(loop).loop_var
    return [
        axis.var
        for axis, value in zip(binding.block.iter_vars, binding.iter_values, strict=True)
        if analysis.uses(value, variable)
    ]


def lane_reduction(schedule: AnySchedule, block: Any, target: Target, knobs: StageKnobs = DEFAULT) -> bool:
    """Splits a reduction along contiguous memory into one partial result per lane.

    Works on a block in a loop nest of its own. The partial results become a block that `reduce_vectors` vectorises.

    Returns:
        Whether the block was split; it is not where the reduction is short or walks memory in steps.
    """
    body = schedule.get(block)
    if not analysis.is_plain(body) or not analysis.is_reduction(body) or not analysis.has_vector_dtypes(body):
        return False
    reduce_axes = [axis.var for axis in body.iter_vars if int(axis.iter_type) == tirx.IterVar.CommReduce]
    loops, kinds = list(schedule.get_loops(block)), analysis.loop_kinds(schedule, block)
    reduce_loops = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "reduce"]
    accesses = analysis.loads(body)
    if len(reduce_loops) != len(reduce_axes) or not reduce_axes or not accesses:
        return False
    largest = max(accesses, key=lambda access: analysis.size(access.buffer))
    contiguous = analysis.contiguous_axis(largest, [axis.var for axis in body.iter_vars])
    if contiguous is None or not contiguous.same_as(reduce_axes[-1]) or analysis.branches_on(body, contiguous):
        return False
    extents = [analysis.extent(schedule, loop) for loop in reduce_loops]
    count = fusible(body, reduce_axes, extents, accesses)
    loop = schedule.fuse(*reduce_loops[-count:]) if count > 1 else reduce_loops[-1]
    width, length = target.lanes(analysis.element_bits(body)), analysis.extent(schedule, loop)
    if width < 2 or length < 2 * width:
        return False
    if length >= _LONG_ROW_VECTORS * width:
        width *= knobs.accumulators
    rank = len(body.body.indices)
    _, lane = schedule.split(loop, factors=[None, width])
    partial = schedule.rfactor(lane, factor_axis=rank)
    if length % width:
        # rfactor drops the bound of a ragged split (apache-tvm 0.27): it is put back at the end.
        bound_lanes(schedule, partial, length, width)
    while width > _LAST_LANES:
        # A tree: the last few additions depend on each other, and would cost their latency each.
        *_, lane = schedule.get_loops(block)
        inner = max(_LAST_LANES, width // 4)
        _, lane = schedule.split(lane, factors=[None, inner])
        schedule.rfactor(lane, factor_axis=rank)
        width = inner
    return True


def reduce_vectors(
    schedule: AnySchedule, block: Any, depth: int, target: Target, cycles: float = 0.0, knobs: StageKnobs = DEFAULT
) -> None:
    """Orders a reduction so that its innermost loop is a vector of results, below its first `depth` loops.

    A block in a loop nest of its own (`depth` 0) is spread over the cores where its `cycles` are worth it.
    """
    body = schedule.get(block)
    if not analysis.is_plain(body) or not body.body.indices or not analysis.has_vector_dtypes(body):
        return
    kinds, loops = analysis.loop_kinds(schedule, block)[depth:], list(schedule.get_loops(block))[depth:]
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "spatial"]
    reduce = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "reduce"]
    if not spatial or not reduce or len(spatial) + len(reduce) != len(loops):
        return
    last = next(
        (
            loop
            for loop in reversed(spatial)
            if any(analysis.uses(body.body.indices[-1], axis) for axis in _axes_of_loop(schedule, block, loop))
        ),
        None,
    )
    width = target.lanes(analysis.element_bits(body))
    if last is None or width < 2 or analysis.extent(schedule, last) < 2:
        return
    moving = _axes_of_loop(schedule, block, last)
    if any(analysis.branches_on(body, axis) for axis in moving):
        return
    if any(_is_strided(access, moving) for access in analysis.loads(body)):
        # LLVM turns a serial loop with steps of 2 or 3 into shuffles; TVM would gather element by element.
        schedule.reorder(*[loop for loop in spatial if not _same(schedule, loop, last)], *reduce, last)
        schedule.decompose_reduction(block, reduce[0])
        return
    others = [loop for loop in spatial if not _same(schedule, loop, last)]
    length = analysis.extent(schedule, last)
    whole = not knobs.result_vectors and length <= _WHOLE_VECTORS * width and length % width == 0
    if length <= width or whole:
        schedule.reorder(*others, *reduce, last)
        schedule.vectorize(last)
    else:
        vectors = knobs.result_vectors or next((n for n in (4, 3, 2) if length % (n * width) == 0), 1)
        factor = min(vectors, length // width) * width
        outer, inner = schedule.split(last, factors=[None, factor])
        schedule.reorder(*others, outer, *reduce, inner)
        schedule.vectorize(inner)
        if length % factor:
            overlap_tail(schedule, outer, length)
        others = [*others, outer]
    if depth == 0:
        parallelize(schedule, others, cycles, target, knobs)
    tested = reduce[-1:] if LANE_BOUND in body.annotations else _tested_loops(schedule, block, reduce)
    schedule.decompose_reduction(block, reduce[0])
    for loop in tested:
        partition_tail(schedule, loop)


def _same(schedule: AnySchedule, left: Any, right: Any) -> bool:
    return bool(schedule.get(left).same_as(schedule.get(right)))


def _is_strided(access: analysis.Access, axes: Sequence[tirx.Var]) -> bool:
    """Whether the access moves with the axes, but not by one element."""
    if not any(analysis.uses(index, axis) for index in access.indices for axis in axes):
        return False
    return analysis.contiguous_axis(access, axes) is None


def _tested_loops(schedule: AnySchedule, block: Any, candidates: Sequence[Any]) -> list[Any]:
    """The loops that the block's bounds test depends on."""
    binding = analysis.realize(schedule, block)
    if binding is None:
        return []
    return [loop for loop in candidates if analysis.uses(binding.predicate, schedule.get(loop).loop_var)]


def work(schedule: AnySchedule, block: Any, target: Target) -> float:
    """Rough cycles that the block takes on one core."""
    body = schedule.get(block)
    if not analysis.is_plain(body):
        return 0.0
    lanes = target.lanes(32) if analysis.has_vector_dtypes(body) else 1
    return analysis.iterations(schedule, block) * max(1.0, analysis.cost(body)) / max(1, lanes)


def worth_threads(cycles: float, target: Target) -> bool:
    """Whether that much work is worth waking the other cores."""
    return target.cores > 1 and cycles >= _PARALLEL_CYCLES


def parallelize(
    schedule: AnySchedule, loops: Sequence[Any], cycles: float, target: Target, knobs: StageKnobs = DEFAULT
) -> int:
    """Runs the outer loops, fused, on all cores where that pays. Returns by how many loops fewer there are."""
    plain: list[Any] = []
    for loop in loops:
        node = schedule.get(loop)
        if node.kind != tirx.ForKind.SERIAL or set(node.annotations) - {OVERLAP} or (node.annotations and plain):
            break
        plain.append(loop)
        if node.annotations:
            break
    wanted = worth_threads(cycles, target) if knobs.parallel == "auto" else knobs.parallel == "always"
    if not plain or target.cores < 2 or not wanted:
        return 0
    fused = schedule.fuse(*plain) if len(plain) > 1 else plain[0]
    if analysis.extent(schedule, fused) > 1:
        schedule.parallel(fused)
    return len(plain) - 1
