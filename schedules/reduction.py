"""Reductions: partial results per lane along contiguous memory, vectors of results across it."""

from __future__ import annotations

from edgeir.schedules.fallback import GroupTemplate
from edgeir.schedules.task import Task
from edgeir.targets.target import Target


class Reduction(GroupTemplate):
    """Sums, means, maxima and the like over any axes, global pooling included."""

    name = "reduction"
    anchors = frozenset({"reduction", "arg_max", "arg_min"})
    knobs = ("accumulators", "row_vectors", "result_vectors", "parallel")

    def match(self, task: Task, target: Target) -> bool:
        """Whether the anchor reduces."""
        return target.kind == "llvm" and (super().match(task, target) or task.anchor.startswith("reduce_"))
