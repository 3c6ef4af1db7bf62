"""The register tile of a matrix product and its loop nest, shared by the matmul templates."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from edgeir.errors import EdgeIRError
from edgeir.schedules import analysis, inlining, loops
from edgeir.schedules.matmul_problem import MatmulProblem
from edgeir.schedules.prefetch import mark_prefetch
from edgeir.schedules.register_tile import registers_needed, step_cycles
from edgeir.schedules.row_fusion import scheduled_or_plain, warn_unscheduled
from edgeir.schedules.simplify import simplified_indices
from edgeir.schedules.tails import apply_overlaps, overlap_tail, partition_tail
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyFunc, AnySchedule, AnyTensor
from edgeir.schedules.vector_math import vectorizable_math
from edgeir.targets.target import Target

_LOGGER = logging.getLogger(__name__)

ACCUMULATOR = "matmul_sum"
PANELS = "matmul_panels"
_MAX_VECTORS = 8


@dataclass(frozen=True)
class MatmulTile:
    """`rows` x `vectors` SIMD registers of sums."""

    rows: int
    vectors: int

    @staticmethod
    def from_config(config: Config, space: Mapping[str, Sequence[int | str | bool]], template: str) -> MatmulTile:
        """The tile that a config names.

        Raises:
            EdgeIRError: unless `config` has exactly the knobs of `space`, each with one of its values.
        """
        if set(config) != set(space):
            raise EdgeIRError("wrong knobs", where=template, expected=sorted(space), got=sorted(config))
        for knob, values in space.items():
            if config[knob] not in values:
                raise EdgeIRError(
                    f"knob `{knob}` is outside its space", where=template, expected=list(values), got=config[knob]
                )
        return MatmulTile(int(config["rows"]), int(config["vectors"]))

    def width(self, target: Target) -> int:
        """Columns of the tile, which are the columns of a panel."""
        return self.vectors * target.lanes()


def tile_space(problem: MatmulProblem, target: Target) -> dict[str, Sequence[int | str | bool]]:
    """The rows and vectors that a tile may have; a few combinations spill registers, which a tuner will see."""
    columns = math.ceil(problem.columns / target.lanes())
    return {
        "rows": tuple(range(1, min(problem.rows, max(1, target.vector_registers - 2)) + 1)),
        "vectors": tuple(range(1, min(columns, _MAX_VECTORS) + 1)),
    }


def choose_matmul_tile(problem: MatmulProblem, target: Target) -> MatmulTile:
    """The tile that needs the fewest cycles, what the last tiles compute twice or for nothing included."""
    columns = math.ceil(problem.columns / target.lanes())
    best, best_key = MatmulTile(1, 1), (math.inf, 0)
    for vectors in range(1, min(columns, _MAX_VECTORS) + 1):
        for rows in range(1, min(problem.rows, target.vector_registers) + 1):
            if registers_needed(rows, vectors, target) > target.vector_registers:
                break
            tiles = math.ceil(problem.rows / rows) * math.ceil(columns / vectors)
            cycles = tiles * step_cycles(rows, vectors, target)
            key = (cycles, -rows * vectors)
            if key < best_key:
                best, best_key = MatmulTile(rows, vectors), key
    return best


def accumulate(problem: MatmulProblem, width: int, a: AnyTensor, right: Any) -> AnyTensor:
    """The product as TE stages: sums in whole panels of `width` columns, then the output's own shape.

    Args:
        problem: the product.
        width: columns of a panel.
        a: the left operand.
        right: gives the right operand's element for (group, panel, k, column in the panel).
    """
    k = te.reduce_axis((0, problem.depth), name="k")
    panels = math.ceil(problem.columns / width)
    sums: Any = te.compute(
        (problem.groups, problem.rows, panels, width),
        lambda g, r, o, v: te.sum(a[problem.a_index(g, r, k)] * right(g, o, k, v), axis=k),
        name=ACCUMULATOR,
    )

    def result(*index: Any) -> Any:
        group, row = problem.group_and_row(index[:-1])
        return sums[group, row, index[-1] // width, index[-1] % width]

    return te.compute((*problem.batch, problem.matrix_rows, problem.columns), result, name="matmul")


def pack_on_the_fly(problem: MatmulProblem, width: int, b: AnyTensor) -> AnyTensor:
    """A copy of the right operand as (groups, panels, depth, width), the last panel filled with zeros."""
    panels = math.ceil(problem.columns / width)

    def element(g: Any, o: Any, k: Any, v: Any) -> Any:
        column = o * width + v
        value = b[problem.b_index(g, k, column)]
        if problem.columns % width == 0:
            return value
        return tirx.if_then_else(column < problem.columns, value, tirx.const(0, problem.dtype))

    return te.compute((problem.groups, panels, problem.depth, width), element, name=PANELS)


@dataclass(frozen=True)
class Sums:
    """How the sums of a tile are computed.

    Attributes:
        schedule: orders and unrolls the loops of the sums, given their block, how many loops are around the tile, the
            tile and the target; returns the innermost loop of the reduction, if panels are to be fetched.
        finish: what is left to do to the scheduled function.
        work: multiply-adds of one element of a vector and step, against float32's 1.
        element_bytes: bytes of an element of the operands.
        panel_at_a_time: whether the stage `PANELS` is computed for one panel at a time, before all its rows.
        fetched: whether steps fetch the weights that come next; `finish` makes it so.
        vector_panels: whether vectors of its last axis are computed.
    """

    schedule: Callable[[AnySchedule, Any, int, MatmulTile, Target], Any]
    finish: Callable[[AnyFunc], AnyFunc] = field(default=lambda func: func)
    work: float = 1.0
    element_bytes: int = 4
    panel_at_a_time: bool = False
    vector_panels: bool = True
    fetched: bool = False


def schedule_matmul(
    args: list[AnyTensor],
    name: str,
    problem: MatmulProblem,
    tile: MatmulTile,
    target: Target,
    sums: Sums | None = None,
    keep: frozenset[str] = frozenset(),
) -> AnyFunc:
    """The scheduled product: sums in registers, epilogue on the tile, panels or rows spread over the cores.

    Where the epilogue has a form that cannot be computed on the tile, its stages run after the product.

    Args:
        args: placeholders and outputs.
        name: of the function.
        problem: the product.
        tile: sums in registers.
        target: the machine.
        sums: how the sums are computed; by default as products of floats.
        keep: further stages that are not computed where they are read.
    """
    func = te.create_prim_func(args).with_attr("global_symbol", name)
    how = sums or Sums(schedule_float_sums)
    try:
        return _schedule_tile(func, problem, tile, target, how, keep)
    except Exception as error:  # every schedule primitive raises its own types
        warn_unscheduled(_LOGGER, func, "the product is not computed in a register tile", error)
        return scheduled_or_plain(func, target)


def _schedule_tile(
    func: AnyFunc, problem: MatmulProblem, tile: MatmulTile, target: Target, how: Sums, keep: frozenset[str]
) -> AnyFunc:
    schedule: AnySchedule = Schedule(tvm.IRModule({"main": func}))
    inlining.inline_injective(schedule, keep=frozenset({ACCUMULATOR, PANELS}) | keep)
    (output,) = schedule.get_output_blocks(schedule.get_sblock("root"))
    schedule, output = _flatten_batch(schedule, output, problem)
    sums = schedule.get_sblock(ACCUMULATOR)
    *group, row, column = schedule.get_loops(output)
    panel, vector, lane = schedule.split(column, factors=[None, tile.vectors, target.lanes()])
    row_tile, row_inner = schedule.split(row, factors=[None, tile.rows])
    rows_first = not how.panel_at_a_time and rows_outside(problem, tile, target, how.element_bytes)
    first, second = (row_tile, panel) if rows_first else (panel, row_tile)
    schedule.reorder(*group, first, second, row_inner, vector, lane)
    schedule.vectorize(lane)
    epilogue = _place_epilogue(schedule, sums, output, second, target)
    schedule.compute_at(sums, second, preserve_unit_loops=True)
    done = {ACCUMULATOR, *epilogue, str(schedule.get(output).name_hint)}
    if how.panel_at_a_time:
        panels = schedule.get_sblock(PANELS)
        schedule.compute_at(panels, panel)
        if how.vector_panels:
            loops.vectorize(schedule, schedule.get_loops(panels)[-1], target.lanes())
        done.add(PANELS)
    cycles = 1.0 * problem.groups * problem.rows * problem.columns * problem.depth / target.lanes() * how.work
    if loops.worth_threads(cycles, target):
        _spread(schedule, group, first, target)
    depth = len(group) + 2
    step = how.schedule(schedule, sums, depth, tile, target)
    if how.fetched and not rows_first:
        mark_prefetch(schedule, step, [(row_tile, analysis.extent(schedule, row_tile))])
    if problem.rows % tile.rows:
        overlap_tail(schedule, row_tile, problem.rows)
    if problem.columns % tile.width(target):
        partition_tail(schedule, panel)
    schedule.unroll(vector)
    schedule.unroll(row_inner)
    _schedule_rest(schedule, done, target)
    return vectorizable_math(how.finish(apply_overlaps(schedule.mod["main"])))


def _flatten_batch(schedule: AnySchedule, output: Any, problem: MatmulProblem) -> tuple[AnySchedule, Any]:
    """Makes the output's batch dimensions one. Returns the schedule to go on with and its output block."""
    if len(problem.batch) > (problem.groups > 1):

        def flatten(*index: Any) -> list[Any]:
            group, row = problem.group_and_row(index[:-1])
            return [row, index[-1]] if problem.groups == 1 else [group, row, index[-1]]

        rank = len(problem.batch) + 2
        schedule.transform_block_layout(output, tirx.IndexMap.from_func(flatten, ndim=rank, index_dtype="int32"))
        # The flat row is split and put together again in the index of the sums: undo that.
        schedule = Schedule(simplified_indices(schedule.mod["main"]))
        (output,) = schedule.get_output_blocks(schedule.get_sblock("root"))
    return schedule, output


def _spread(schedule: AnySchedule, group: list[Any], first: Any, target: Target) -> None:
    """Runs the groups on all cores, or the outer tiles where there are fewer groups than cores."""
    groups = analysis.extent(schedule, group[0]) if group else 1
    schedule.parallel(group[0] if groups >= target.cores else first)


def rows_outside(problem: MatmulProblem, tile: MatmulTile, target: Target, element_bytes: int = 4) -> bool:
    """Whether walking all panels for each tile of rows moves less memory than the other way round."""
    cache = target.l2_bytes * 3 // 4
    left, right = (extent * problem.depth * element_bytes for extent in (problem.rows, problem.columns))
    row_tiles, panels = math.ceil(problem.rows / tile.rows), math.ceil(problem.columns / tile.width(target))
    panels_outside = right + left * (panels if left > cache else 1)
    tiles_outside = left + right * (row_tiles if right > cache else 1)
    return tiles_outside < panels_outside


def schedule_float_sums(
    schedule: AnySchedule, sums: Any, depth: int, tile: MatmulTile, target: Target, together: int = 1
) -> Any:
    """Unrolls the tile and lets it run over k: one vector of the panel against one element of each row.

    Returns the loop over k.

    Args:
        schedule: where the block is.
        sums: the block.
        depth: loops around the tile.
        tile: the tile.
        target: the machine.
        together: steps of k that are unrolled, where they divide it.
    """
    _, row, _, column, k = schedule.get_loops(sums)[depth:]
    vector, lane = schedule.split(column, factors=[tile.vectors, target.lanes()])
    steps: list[Any] = []
    if together > 1 and analysis.extent(schedule, k) % together == 0:
        k, step = schedule.split(k, factors=[None, together])
        schedule.unroll(step)
        steps = [step]
    schedule.reorder(k, *steps, row, vector, lane)
    schedule.vectorize(lane)
    schedule.unroll(vector)
    schedule.unroll(row)
    initial = schedule.decompose_reduction(sums, k)
    _, row, _, *rest = schedule.get_loops(initial)[depth:]
    schedule.vectorize(rest[-1])
    for loop in [row, *rest[:-1]]:
        schedule.unroll(loop)
    schedule.set_scope(initial, 0, "local")
    return k


def _place_epilogue(schedule: AnySchedule, sums: Any, output: Any, tile: Any, target: Target) -> list[str]:
    """Computes the stages between the product and the output, where some were not inlined, for one tile at a time."""
    found: dict[str, Any] = {}
    pending = [sums]
    while pending:
        for reader in schedule.get_consumers(pending.pop()):
            name = str(schedule.get(reader).name_hint)
            if name not in found and name != schedule.get(output).name_hint:
                found[name] = reader
                pending.append(reader)
    names = [name for name in reversed(analysis.names(schedule)) if name in found]
    for name in names:
        schedule.compute_at(found[name], tile)
        loops.vectorize(schedule, schedule.get_loops(found[name])[-1], target.lanes())
    return names


def _schedule_rest(schedule: AnySchedule, done: set[str], target: Target) -> None:
    """Vectorises what is computed before the product: packed panels and the prologue."""
    for name in analysis.names(schedule):
        if name not in done and not name.startswith(ACCUMULATOR):
            loops.vectorize_spatial(schedule, schedule.get_sblock(name), 0, target)
