"""LSTM, GRU and RNN layers: all time steps in one kernel, state weights packed at compile time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import te

from edgeir.errors import EdgeIRError
from edgeir.schedules import loops
from edgeir.schedules.recurrent_loops import Tile
from edgeir.schedules.recurrent_panels import Panels
from edgeir.schedules.recurrent_problem import Recurrence
from edgeir.schedules.recurrent_stage import recurrent_stage
from edgeir.schedules.register_tile import is_x86, registers_needed, step_cycles
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyTensor
from edgeir.schedules.vector_math import vectorizable_math
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

_MAX_VECTORS = 8
# Bytes that come from the second-level cache per cycle.
_STREAM = 32


class Recurrent:
    """Layers whose state weights are constant, in float32."""

    name = "recurrent"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the task is a float32 layer whose state weights are a constant of its own."""
        problem = task.recurrence
        if target.kind != "llvm" or problem is None or problem.hidden * problem.batch * problem.steps == 0:
            return False
        right = task.anchor_operands[problem.operands.index("r")]
        return task.anchor_output.dtype == "float32" and right is not None and task.operands[right].constant

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Register tiles (`rows` sequences, `vectors` of each gate) and what `threads` share."""
        problem = _problem(task)
        columns = math.ceil(problem.hidden / _lanes(problem, target))
        share = ["none"]
        if target.cores > 1:
            share += ["sequences"] * (problem.batch * problem.directions > 1) + ["units"]
        return {
            "rows": tuple(range(1, min(problem.batch, max(1, target.vector_registers - 2)) + 1)),
            "vectors": tuple(range(1, min(columns, _MAX_VECTORS) + 1)),
            "threads": tuple(share),
        }

    def default(self, task: Task, target: Target) -> Config:
        """The tile with the fewest cycles; threads share sequences, which never meet, or else long steps."""
        problem = _problem(task)
        lanes = _lanes(problem, target)
        threads = "none"
        if loops.worth_threads(problem.macs / lanes, target):
            step_bytes = 4 * problem.gates * problem.hidden**2
            if problem.batch * problem.directions > 1:
                threads = "sequences"
            elif loops.worth_threads(step_bytes / _STREAM, target):
                threads = "units"
        sequences = math.ceil(problem.batch / _parts(problem, target, threads))
        rows, vectors = _choose_tile(problem, sequences, target)
        return {"rows": rows, "vectors": vectors, "threads": threads}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel and how to pack its constant.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        problem, space = _problem(task), self.space(task, target)
        for knob in {*space, *config}:
            if knob not in space or config.get(knob) not in space[knob]:
                raise EdgeIRError(
                    f"knob `{knob}` is outside the space",
                    where=self.name,
                    expected=list(space.get(knob, ())),
                    got=config.get(knob),
                )
        threads, lanes = str(config["threads"]), _lanes(problem, target)
        vectors = min(int(config["vectors"]), problem.hidden // lanes)
        tile = Tile(lanes, vectors, int(config["rows"]), _parts(problem, target, threads), threads == "units")
        panels = Panels(problem, tile.width)
        right = task.anchor_operands[problem.operands.index("r")]
        assert right is not None

        def anchor(inputs: Sequence[AnyTensor]) -> Sequence[AnyTensor]:
            return recurrent_stage(problem, tile, inputs, packed=True, parallel=threads == "sequences")

        placeholders, outputs = task.build(anchor, {right: panels.shape})
        args: list[Any] = [*placeholders, *outputs]
        func = vectorizable_math(te.create_prim_func(args).with_attr("global_symbol", task.name))
        return Kernel(func, {right: panels.packing()}, workspace_bytes(func))


def _problem(task: Task) -> Recurrence:
    if task.recurrence is None:
        raise EdgeIRError("not a recurrent layer", where=task.name)
    return task.recurrence


def _lanes(problem: Recurrence, target: Target) -> int:
    """Elements of a vector: those of a register, or fewer for a few units."""
    return min(target.lanes(), 1 << (problem.hidden.bit_length() - 1))


def _parts(problem: Recurrence, target: Target, threads: str) -> int:
    """Into how many parts the sequences of a direction are cut."""
    return min(problem.batch, math.ceil(target.cores / problem.directions)) if threads == "sequences" else 1


def _choose_tile(problem: Recurrence, sequences: int, target: Target) -> tuple[int, int]:
    """(rows, vectors) with the fewest cycles."""
    gates = max(len(phase) for phase in problem.phases)
    columns = problem.hidden // _lanes(problem, target)
    best, best_key = (1, 1), (math.inf, 0)
    for vectors in range(1, min(columns, _MAX_VECTORS) + 1):
        for rows in range(1, sequences + 1):
            sums = gates * vectors
            # Weights that one sequence reads alone are memory operands.
            needed = sums + 2 if rows == 1 and is_x86(target) else registers_needed(rows, sums, target)
            if needed > target.vector_registers:
                break
            tiles = math.ceil(sequences / rows) * math.ceil(columns / vectors)
            key = (tiles * step_cycles(rows, sums, target), rows * vectors)
            if key < best_key:
                best, best_key = (rows, vectors), key
    return best
