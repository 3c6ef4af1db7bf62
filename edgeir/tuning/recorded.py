"""Scheduling kernels by the best record for a target."""

from __future__ import annotations

import math

from edgeir.errors import EdgeIRError
from edgeir.lowering.module import Scheduled
from edgeir.schedules.select import matching
from edgeir.schedules.task import Task
from edgeir.targets.target import Target
from edgeir.tuning.records import RecordStore, ranking
from edgeir.tuning.tasks import context_of, find_template


class RecordedScheduler:
    """Schedules a task by its fastest record, and by the default where there is none or the default is fastest.

    Args:
        store: the records; None for defaults only.
        target: the machine; its cores are the threads.

    Attributes:
        tuned: names of the kernels that have records.
        untuned: names of the kernels that could be tuned and have none.
    """

    def __init__(self, store: RecordStore | None, target: Target) -> None:
        self._store, self._target = store, target
        self.tuned: list[str] = []
        self.untuned: list[str] = []

    def __call__(self, task: Task) -> Scheduled:
        """The scheduled kernel."""
        templates = matching(task, self._target)
        found = [] if self._store is None else self._store.records(context_of(task, self._target))
        ranked = ranking(found)
        if any(math.prod(map(len, item.space(task, self._target).values())) > 1 for item in templates):
            (self.tuned if ranked else self.untuned).append(task.name)
        for record in ranked:
            if record.ratio >= 1:
                break
            try:
                template = find_template(templates, record.template, task.name)
                return Scheduled(task, template.name, record.config, template.apply(task, record.config, self._target))
            except EdgeIRError:
                # The template has changed since; the next best may still be valid.
                continue
        template = templates[0]
        config = template.default(task, self._target)
        return Scheduled(task, template.name, config, template.apply(task, config, self._target))
