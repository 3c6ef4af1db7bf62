"""Matrix product with a constant right operand, packed at compile time into panels that stream through registers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgeir.schedules.matmul_problem import MatmulProblem, matmul_problem, required_problem
from edgeir.schedules.matmul_tile import (
    MatmulTile,
    Sums,
    accumulate,
    choose_matmul_tile,
    rows_outside,
    schedule_float_sums,
    schedule_matmul,
    tile_space,
)
from edgeir.schedules.prefetch import prefetch_choices, with_prefetch, worth_prefetch
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyTensor
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target


def pack_panels(problem: MatmulProblem, width: int) -> Callable[[np.ndarray], np.ndarray]:
    """Packs the right operand as (groups, panels, depth, width), the last panel filled with zeros."""

    def pack(array: np.ndarray) -> np.ndarray:
        matrices = problem.right_matrices(array)
        panels = math.ceil(problem.columns / width)
        padding = panels * width - problem.columns
        padded = np.pad(matrices, ((0, 0), (0, 0), (0, padding)))
        split = padded.reshape(problem.groups, problem.depth, panels, width)
        return np.ascontiguousarray(split.transpose(0, 2, 1, 3))

    return pack


class MatmulPacked:
    """Products with a constant right operand, from one row (bound by memory) to many (bound by arithmetic)."""

    name = "matmul-packed"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the task is a float32 product whose right operand is a constant of its own."""
        if target.kind != "llvm" or matmul_problem(task) is None:
            return False
        right = task.anchor_operands[1]
        return right is not None and task.operands[right].constant and task.anchor_operands[0] != right

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Register tiles: `rows` of the left operand, `vectors` of columns; and whether weights are fetched ahead."""
        problem, right = _problem(task), task.anchor_operands[1]
        assert right is not None
        tiles = tile_space(problem, target)
        # The tile with the fewest panels and the most tiles that use them: is there a loop over these around one?
        extreme = MatmulTile(1, max(int(vectors) for vectors in tiles["vectors"]))
        used = 1 if rows_outside(problem, extreme, target) else problem.rows
        panels = problem.groups * math.ceil(problem.columns / target.lanes())
        return {**tiles, "prefetch": prefetch_choices(task, right, used, panels, _floats(problem), target)}

    def default(self, task: Task, target: Target) -> Config:
        """The tile that the register count allows and that wastes least; fetches where they pay."""
        problem = _problem(task)
        tile = choose_matmul_tile(problem, target)
        offered = True in self.space(task, target)["prefetch"]
        panels = math.ceil(problem.columns / tile.width(target))
        fetched = offered and worth_prefetch(problem.rows // tile.rows, panels, _floats(problem), target)
        return {"rows": tile.rows, "vectors": tile.vectors, "prefetch": fetched}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel and how to pack its constant.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        problem, tile = _problem(task), MatmulTile.from_config(config, self.space(task, target), self.name)
        width = tile.width(target)
        right = task.anchor_operands[1]
        assert right is not None
        shape = (problem.groups, math.ceil(problem.columns / width), problem.depth, width)

        def anchor(inputs: Sequence[AnyTensor]) -> AnyTensor:
            a, panels = inputs
            return accumulate(problem, width, a, lambda g, o, k, v: panels[g, o, k, v])

        placeholders, outputs = task.build(anchor, {right: shape})
        args: list[Any] = [*placeholders, *outputs]
        fetched = bool(config["prefetch"]) and problem.rows > tile.rows and shape[0] * shape[1] > 1
        sums = (
            Sums(schedule_float_sums, partial(with_prefetch, weight=right, outer=2, inner=1), fetched=True)
            if fetched
            else None
        )
        func = schedule_matmul(args, task.name, problem, tile, target, sums)
        return Kernel(func, {right: pack_panels(problem, width)}, workspace_bytes(func))


def _problem(task: Task) -> MatmulProblem:
    return required_problem(task, matmul_problem(task))


def _floats(problem: MatmulProblem) -> int:
    return problem.groups * problem.depth * problem.columns
