"""The template of last resort: schedules any PrimFunc, and never fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import te

from edgeir.errors import EdgeIRError
from edgeir.schedules.row_fusion import scheduled_or_plain
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
    """A template without knobs over groups of TE stages, chosen by their anchor."""

    name = "fallback"
    anchors: frozenset[str] | None = None
    """The anchors that it takes; None for all."""

    def match(self, task: Task, target: Target) -> bool:
        """Whether the task's anchor is one of the template's and the target is a CPU."""
        return target.kind == "llvm" and (self.anchors is None or task.anchor in self.anchors)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """No knobs: the loop structure follows from the computation and the target."""
        return {}

    def default(self, task: Task, target: Target) -> Config:
        """The empty config."""
        return {}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel.

        Raises:
            EdgeIRError: for a config with knobs.
        """
        if config:
            raise EdgeIRError("wrong knobs", where=self.name, expected=[], got=sorted(config))
        func = self.scheduled(plain_function(task), target)
        return Kernel(func, workspace_bytes=workspace_bytes(func))

    def scheduled(self, func: AnyFunc, target: Target) -> AnyFunc:
        """The function, scheduled for the target."""
        return scheduled_or_plain(func, target)


class Fallback(GroupTemplate):
    """Takes every task of every CPU."""
