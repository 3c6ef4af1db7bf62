"""A schedule that leaves kernels as they are, so that tests of lowering do not depend on the templates."""

from __future__ import annotations

from edgeir.lowering import te
from edgeir.lowering.module import Scheduled
from edgeir.schedules.task import Kernel, Task


def plain(task: Task) -> Scheduled:
    """The kernel by its definition."""
    placeholders, outputs = task.build()
    func = te.create_prim_func([*placeholders, *outputs]).with_attr("global_symbol", task.name)
    return Scheduled(task, "plain", {}, Kernel(func))
