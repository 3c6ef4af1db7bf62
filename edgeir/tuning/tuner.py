"""Tuning a model: which kernel to work on next, until the trials or the time are used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeir.errors import EdgeIRError
from edgeir.targets.target import Target
from edgeir.tuning.context import Context
from edgeir.tuning.cost_model import CostModel
from edgeir.tuning.features import NESTS, feature_rows
from edgeir.tuning.measure import DEFAULT_ATTEMPTS, Measurer
from edgeir.tuning.problem import Problem
from edgeir.tuning.record import Record
from edgeir.tuning.records import RecordStore
from edgeir.tuning.search import Search
from edgeir.tuning.tasks import KernelTask, kernel_task

BATCH = 12
TRANSFERRED = 1500
"""Records of other kernels and targets that the cost model starts from at most."""

SCHEDULED = 640
"""Of these so many are scheduled, so that the model sees their loops: some ten milliseconds each, once."""

WINDOW = 3
"""Batches over which progress is judged."""

OPTIMISM = 0.25
"""Share of a kernel's time that its first batch is hoped to save; falls with each batch that saves nothing."""


@dataclass
class Progress:
    """How far a kernel is.

    Attributes:
        task: the kernel.
        search: its search.
        default_seconds: least seconds of the default configuration so far; None before it ran.
        looks: how often the default was to be measured first, in this run.
        trials: measurements in the store, earlier runs included.
        failures: those that failed.
        history: the best ratio after each batch of this run.
    """

    task: KernelTask
    search: Search
    default_seconds: float | None = None
    looks: int = 0
    trials: int = 0
    failures: int = 0
    history: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Predicted seconds in one run of the model, with the best configuration."""
        return self.default_share * self.search.best_ratio

    @property
    def default_share(self) -> float:
        """Seconds in one run of the model, untuned; 0 before they were measured."""
        return self.task.count * (self.default_seconds or 0.0)

    @property
    def expected_gain(self) -> float:
        """Seconds that the next batch is expected to save in one run of the model."""
        if self.search.exhausted or self.default_seconds is None:
            return 0.0
        recent = [1.0, *self.history][-WINDOW - 1 :]
        saved = (recent[0] - recent[-1]) / max(1, len(recent) - 1)
        idle = sum(1 for ratio in self.history if ratio <= self.search.best_ratio * 1.01)
        hope = OPTIMISM * self.search.best_ratio / (1 + len(self.history) + idle)
        return self.default_share * max(saved, hope)

    def take(self, records: Sequence[Record]) -> None:
        """Takes measurements in."""
        self.trials += len(records)
        self.failures += sum(bool(record.error) for record in records)
        seconds = [record.yardstick for record in records if record.yardstick is not None]
        if seconds:
            self.default_seconds = min([*seconds, *([self.default_seconds] if self.default_seconds else [])])
        self.search.learn(records)


class Tuner:
    """Tunes the kernels of one model.

    Args:
        tasks: the kernels; what the store knows of them is continued.
        store: where every measurement goes as soon as it is made.
        measurer: measures candidates.
        seed: of all choices.
        strategy: one of `search.STRATEGIES`.
        batch: candidates that are measured between two decisions.
    """

    def __init__(
        self,
        tasks: Sequence[KernelTask],
        store: RecordStore,
        measurer: Measurer,
        seed: int = 0,
        strategy: str = "model",
        batch: int = BATCH,
    ) -> None:
        self.store, self._measurer, self._batch = store, measurer, batch
        self.model = CostModel(seed)
        if strategy == "model":
            transfer(self.model, store, tasks)
        tunable = [task for task in tasks if task.size > 1]
        self.progress = [Progress(task, Search(task, seed, strategy, self.model)) for task in tunable]
        for item in self.progress:
            item.take(store.records(item.task.context))

    @property
    def trials(self) -> int:
        """Measurements of these kernels in the store, earlier runs included."""
        return sum(item.trials for item in self.progress)

    @property
    def seconds(self) -> float:
        """Predicted seconds that the tunable kernels take in one run of the model."""
        return sum(item.seconds for item in self.progress)

    @property
    def default_seconds(self) -> float:
        """The same, untuned."""
        return sum(item.default_share for item in self.progress)

    def run(
        self,
        trials: int | None = None,
        seconds: float | None = None,
        on_batch: Callable[[Progress], None] | None = None,
    ) -> None:
        """Tunes until a limit is reached or nothing is left to try.

        Args:
            trials: measurements of these kernels in the store, those of earlier runs included.
            seconds: of this run.
            on_batch: told after each batch which kernel it was for.

        Raises:
            EdgeIRError: no limit is given, or the store cannot be written.
        """
        if trials is None and seconds is None:
            raise EdgeIRError("tuning needs a limit", expected="a number of trials, or a time")
        end = time.monotonic() + (float("inf") if seconds is None else seconds)
        while time.monotonic() < end and (trials is None or self.trials < trials):
            item = self._next()
            if item is None:
                return
            self._step(item, self._batch if trials is None else min(self._batch, trials - self.trials))
            if on_batch is not None:
                on_batch(item)

    def _next(self) -> Progress | None:
        """The kernel to work on: each one's default first, then the largest expected gain."""
        for item in self.progress:
            if item.default_seconds is None and item.looks < DEFAULT_ATTEMPTS:
                return item
        for item in self.progress:
            if not item.search.is_confirmed:
                return item
        best = max(self.progress, key=lambda item: item.expected_gain, default=None)
        return best if best is not None and best.expected_gain > 0 else None

    def _step(self, item: Progress, count: int) -> None:
        first = item.default_seconds is None
        if first or item.search.is_confirmed:
            item.looks += first
            # A first look at each kernel: the default of every template. The next ones, if it failed: itself.
            again = [item.search.default] if first and item.trials else []
            candidates = again or item.search.propose(min(count, len(item.task.templates)) if first else count)
            if candidates:
                item.take(self._measurer.measure(item.task, candidates, self._keep))
        for _ in range(self._batch):
            if item.search.is_confirmed:
                break
            # The next best may take the place of one that was only lucky, and is measured again then.
            item.take(self._measurer.measure(item.task, [item.search.best], self._keep))
        if not first:
            item.history.append(item.search.best_ratio)

    def _keep(self, record: Record) -> None:
        self.store.add([record])


def transfer(model: CostModel, store: RecordStore, tasks: Sequence[KernelTask]) -> int:
    """Teaches the model what the store knows of other kernels and targets, the most similar first.

    Args:
        model: the model.
        store: the records.
        tasks: the kernels that it will rank; what is known of these themselves is left out.

    Returns:
        How many records were taken, at most `TRANSFERRED`.
    """
    taken, scheduled = 0, 0
    own = {task.context.hash for task in tasks}
    others = [(context, count) for context, count in store.contexts() if context.hash not in own and context.problem]
    # `sorted` keeps the order of hashes among equals, so that the same store teaches the same.
    for context, count in sorted(others, key=lambda item: -similarity(item[0], tasks)):
        if taken >= TRANSFERRED:
            break
        try:
            task = _task_of(context)
        except EdgeIRError:
            # A record of another version, whose kernel or target this one does not know.
            continue
        records = [record for record in store.records(context) if record.template in task.spaces]
        records = records[-min(count, TRANSFERRED - taken) :]
        if records:
            nests = min(NESTS, SCHEDULED - scheduled, len(records))
            rows = feature_rows(task, [(record.template, record.config) for record in records], nests)
            scheduled += nests
            model.add(context.kernel, rows, [record.ratio for record in records])
            taken += len(records)
    return taken


def similarity(context: Context, tasks: Sequence[KernelTask]) -> float:
    """How much records of a kernel and machine tell about the most similar of some tasks: 0 to 3.

    One each for the same target and for the same anchor operator, and the share of equal operators.
    """
    operators = set(context.operators)
    best = 0.0
    for task in tasks:
        other = task.context
        same_anchor = context.anchor is not None and context.anchor == other.anchor
        common = len(operators & set(other.operators)) / max(1, len(operators | set(other.operators)))
        same_target = dict(context.target) == dict(other.target)
        best = max(best, float(same_anchor) + float(same_target) + common)
    return best


def _task_of(context: Context) -> KernelTask:
    target = Target.from_dict({**context.target, "name": "recorded", "cores": context.threads})
    return kernel_task(Problem.from_text(context.problem), target)
