"""How long a kernel takes: from the records, or else measured."""

from __future__ import annotations

from collections.abc import Sequence

from edgeir.tuning.measure import Candidate, Measurer
from edgeir.tuning.record import Record
from edgeir.tuning.records import RecordStore, ranking
from edgeir.tuning.tasks import KernelTask

REPEATS = 2
"""Measurements of a kernel's default; one alone may meet a slow moment of the machine."""


class RecordedSeconds:
    """Seconds of one run of a kernel with the best configuration that is known.

    Args:
        store: what was measured, and where new measurements go.
        measurer: measures the default where nothing is known.
    """

    def __init__(self, store: RecordStore, measurer: Measurer) -> None:
        self._store, self._measurer = store, measurer
        self._known: dict[str, float | None] = {}

    def __call__(self, task: KernelTask) -> float | None:
        """Seconds; None where even the default fails."""
        key = task.context.hash
        if key not in self._known:
            seconds = _seconds(self._store.records(task.context))
            if seconds is None:
                for _ in range(REPEATS):
                    self._store.add(self._measurer.measure(task, [Candidate(*task.default)]))
                seconds = _seconds(self._store.records(task.context))
            self._known[key] = seconds
        return self._known[key]


def _seconds(records: Sequence[Record]) -> float | None:
    """The least time of the default, times the best ratio to it."""
    defaults = [record.yardstick for record in records if record.yardstick is not None]
    ranked = ranking(records)
    if not defaults or not ranked:
        return None
    return min(defaults) * min(1.0, ranked[0].ratio)
