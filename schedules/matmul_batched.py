"""Batched matrix product of two computed operands, as in attention: QKᵀ and PV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeir.schedules.matmul_problem import MatmulProblem, matmul_problem, required_problem
from edgeir.schedules.matmul_tile import (
    MatmulTile,
    accumulate,
    choose_matmul_tile,
    pack_on_the_fly,
    schedule_matmul,
    tile_space,
)
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyTensor
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

_MAX_BATCH = 1 << 16


class MatmulBatched:
    """Products whose right operand is computed: read in place where it is contiguous, else repacked per matrix."""

    name = "matmul-batched"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the task is a float32 product of matrices."""
        problem = matmul_problem(task)
        return target.kind == "llvm" and problem is not None and problem.groups <= _MAX_BATCH

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Register tiles, and whether the right operand is repacked before it is used."""
        return {**tile_space(_problem(task), target), "pack": (True, False)}

    def default(self, task: Task, target: Target) -> Config:
        """The tile that wastes least; repacking unless rows are read in place without waste."""
        problem = _problem(task)
        tile = choose_matmul_tile(problem, target)
        in_place = _can_read_in_place(problem, tile, target) and (
            problem.rows <= 2 * tile.rows or problem.columns * problem.depth * 4 <= target.l1_bytes
        )
        return {"rows": tile.rows, "vectors": tile.vectors, "pack": not in_place}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel. Without `pack`, an operand that cannot be read in place is repacked all the same.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        problem, tile = _problem(task), MatmulTile.from_config(config, self.space(task, target), self.name)
        width = tile.width(target)
        pack = bool(config["pack"]) or not _can_read_in_place(problem, tile, target)

        def anchor(inputs: Sequence[AnyTensor]) -> AnyTensor:
            a, b = inputs
            if pack:
                panels = pack_on_the_fly(problem, width, b)
                return accumulate(problem, width, a, lambda g, o, k, v: panels[g, o, k, v])
            return accumulate(problem, width, a, lambda g, o, k, v: b[problem.b_index(g, k, o * width + v)])

        placeholders, outputs = task.build(anchor)
        args: list[Any] = [*placeholders, *outputs]
        func = schedule_matmul(args, task.name, problem, tile, target)
        return Kernel(func, workspace_bytes=workspace_bytes(func))


def _can_read_in_place(problem: MatmulProblem, tile: MatmulTile, target: Target) -> bool:
    """Whether every vector of columns lies in one piece and no panel sticks out."""
    return not problem.transpose_b and problem.columns % tile.width(target) == 0


def _problem(task: Task) -> MatmulProblem:
    return required_problem(task, matmul_problem(task))
