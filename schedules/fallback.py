"""The template of last resort: schedules any PrimFunc, and never fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import te

from edgeir.schedules.row_fusion import scheduled_or_plain
from edgeir.schedules.stage_knobs import DEFAULT, StageKnobs
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyFunc
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target


def plain_function(task: Task) -> AnyFunc:
    """The task's computation, unscheduled."""
    placeholders, outputs = task.build()
    return te.create_prim_func([*placeholders, *outputs]).with_attr("global_symbol", task.name)


class GroupTemplate:
    """A template over groups of TE stages, chosen by their anchor; the loops follow from the stages."""

    name = "fallback"
    anchors: frozenset[str] | None = None
    """The anchors that it takes; None for all."""

    knobs: tuple[str, ...] = ()
    """Those of `StageKnobs` that may matter."""

    def match(self, task: Task, target: Target) -> bool:
        """Whether the task's anchor is one of the template's and the target is a CPU."""
        return target.kind == "llvm" and (self.anchors is None or task.anchor in self.anchors)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """The values of the template's knobs."""
        return StageKnobs.space(target, self.knobs)

    def default(self, task: Task, target: Target) -> Config:
        """What follows from the computation and the target."""
        return {name: getattr(DEFAULT, name) for name in self.space(task, target)}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel.

        Raises:
            EdgeIRError: a knob or a value is not in the space.
        """
        knobs = StageKnobs.from_config(config, self.space(task, target), self.name)
        func = self.scheduled(plain_function(task), target, knobs)
        return Kernel(func, workspace_bytes=workspace_bytes(func))

    def scheduled(self, func: AnyFunc, target: Target, knobs: StageKnobs) -> AnyFunc:
        """The function, scheduled for the target."""
        return scheduled_or_plain(func, target, knobs)


class Fallback(GroupTemplate):
    """Takes every task of every CPU."""
