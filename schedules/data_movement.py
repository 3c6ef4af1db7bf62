"""Kernels that move data: transpositions, changes of layout, concatenations, depth to space, nearest resizing.

Loops over the output read one element at a time wherever its neighbours are no neighbours in an input. Here a tile of
the output is put together in registers: whole vectors are read along whatever axis an input is contiguous in,
rearranged by shuffles, computed on, and written as whole vectors. Every division, remainder and condition on the
position is left outside the tile.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeir.errors import EdgeIRError
from edgeir.schedules import analysis
from edgeir.schedules.fallback import plain_function
from edgeir.schedules.loops import worth_threads
from edgeir.schedules.movement_formula import Movement, NotMovementError, movement_of
from edgeir.schedules.movement_loops import movement_loops
from edgeir.schedules.movement_tile import Tile, tiles
from edgeir.schedules.stage_knobs import PARALLEL, check_given
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

_ANCHORS = frozenset({"injective", "resize"})
_DTYPES = frozenset(("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))


@dataclass(frozen=True)
class Plan:
    """A kernel's computation and the tiles that fit it, the best first."""

    movement: Movement
    tiles: tuple[Tile, ...]


class _Keyed:
    """A task, equal to others of the same key."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and (self.task.key, self.task.name) == (other.task.key, other.task.name)

    def __hash__(self) -> int:
        return hash((self.task.key, self.task.name))


@functools.lru_cache(maxsize=64)
def _planned(keyed: _Keyed, vector_bits: int) -> Plan | None:
    task = keyed.task
    dtypes = {operand.spec.dtype for operand in task.operands} | {output.dtype for output in task.outputs}
    if not dtypes <= _DTYPES:
        return None
    bits = max(8 * analysis.element_bytes(dtype) for dtype in dtypes)
    try:
        movement = movement_of(task, plain_function)
        found = tiles(movement, vector_bits // bits, bits)
    except NotMovementError:
        return None
    return Plan(movement, found) if any(map(_rearranges, found)) else None


def _rearranges(tile: Tile) -> bool:
    """Whether elements change places in registers; where none do, loops over vectors are as good."""
    gathers = [gather for leaf in tile.gathers if leaf is not None for gather in leaf]
    return any(gather.shuffles is not None and gather.shuffles.shuffles for gather in gathers)


class DataMovement:
    """Groups of injective operators whose inputs can be read in whole vectors."""

    name = "data_movement"

    def match(self, task: Task, target: Target) -> bool:
        """Whether some tile fits everywhere in the output."""
        return (
            target.kind == "llvm" and task.anchor in _ANCHORS and _planned(_Keyed(task), target.vector_bits) is not None
        )

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """`tile`: vector length and sides; `parallel` where there are several cores."""
        plan = self.plan(task, target)
        names: dict[str, Sequence[int | str | bool]] = {"tile": [tile.name for tile in plan.tiles]}
        return {**names, "parallel": PARALLEL} if target.cores > 1 else names

    def default(self, task: Task, target: Target) -> Config:
        """The tile of the least estimated cycles."""
        space = self.space(task, target)
        return {name: values[0] for name, values in space.items()}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel.

        Raises:
            EdgeIRError: a knob or a value is not in the space, or no tile fits.
        """
        plan = self.plan(task, target)
        check_given(config, self.space(task, target), self.name)
        config = {**self.default(task, target), **config}
        tile = next(tile for tile in plan.tiles if tile.name == config["tile"])
        cycles = tile.cycles
        for extent in plan.movement.extents:
            cycles *= extent
        wanted = config.get("parallel", "never")
        parallel = wanted == "always" or (wanted == "auto" and worth_threads(cycles, target))
        func = movement_loops(plan.movement, tile, target.cores if parallel else 1)
        func = func.with_attr("global_symbol", task.name)
        return Kernel(func, workspace_bytes=workspace_bytes(func))

    def plan(self, task: Task, target: Target) -> Plan:
        """The movement and its tiles, the best first.

        Raises:
            EdgeIRError: no tile fits.
        """
        plan = _planned(_Keyed(task), target.vector_bits)
        if plan is None:
            raise EdgeIRError("no tile fits the kernel", where=task.name)
        return plan
