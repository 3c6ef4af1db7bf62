"""Where every value of a program lies: the caller's arrays, the arena, or the constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeir.ir import Value
from edgeir.lowering.arena import ArenaPlan, Interval, plan_arena
from edgeir.lowering.bare import BareProgram
from edgeir.lowering.in_place import ALIGNMENT
from edgeir.lowering.views import value_bytes


@dataclass(frozen=True)
class Memory:
    """The memory of a program.

    Attributes:
        inputs, outputs: value → its number among the caller's arrays.
        offsets: value → where it lies in the arena.
        workspaces: call's number → where the arena has room for what its kernel allocates.
        plan: the arena.
    """

    inputs: Mapping[Value, int]
    outputs: Mapping[Value, int]
    offsets: Mapping[Value, int]
    workspaces: Mapping[int, int]
    plan: ArenaPlan

    def copies(self, program: BareProgram) -> list[int]:
        """Numbers of the outputs that no kernel writes: inputs, constants, and values returned more than once."""
        return [n for n, result in enumerate(program.results) if self.outputs.get(result.value) != n]


def plan_memory(program: BareProgram, workspace: Mapping[str, int]) -> Memory:
    """Places every value.

    Args:
        program: the calls.
        workspace: kernel → bytes that it allocates while it runs.
    """
    inputs = {value: number for number, value in enumerate(program.graph.inputs)}
    outputs: dict[Value, int] = {}
    for number, result in enumerate(program.results):
        if result.constant is None and result.value not in inputs:
            outputs.setdefault(result.value, number)
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for step, call in enumerate(program.calls):
        for value in call.writes:
            # Several kernels write a concatenation that is put together in place.
            first.setdefault(value, step)
            last[value] = step
        for value in call.reads:
            last[value] = step
    stored = [value for value in first if value not in outputs]
    busy = [step for step, call in enumerate(program.calls) if workspace.get(call.kernel)]
    intervals = [Interval(_aligned(value_bytes(value)), first[value], last[value]) for value in stored]
    intervals += [Interval(_aligned(workspace[program.calls[step].kernel]), step, step) for step in busy]
    plan = plan_arena(intervals)
    offsets = dict(zip(stored, plan.offsets, strict=False))
    rooms = dict(zip(busy, plan.offsets[len(stored) :], strict=True))
    return Memory(inputs, outputs, offsets, rooms, plan)


def _aligned(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
