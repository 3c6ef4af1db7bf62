"""The template of last resort for GPUs: schedules any PrimFunc, and never fails."""

from __future__ import annotations

from edgeir.schedules.fallback import GroupTemplate
from edgeir.schedules.gpu_stages import schedule_for_gpu
from edgeir.schedules.stage_knobs import StageKnobs
from edgeir.schedules.task import Task
from edgeir.schedules.tir_types import AnyFunc
from edgeir.targets.target import Target


class GpuFallback(GroupTemplate):
    """Takes every task of every GPU: a kernel for each stage that is not computed where it is read."""

    name = "gpu_fallback"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the target is a GPU."""
        return target.gpu is not None

    def scheduled(self, func: AnyFunc, target: Target, knobs: StageKnobs) -> AnyFunc:
        """The function, every stage bound to blocks and threads; a GPU's stages have no knobs."""
        return schedule_for_gpu(func, target)
