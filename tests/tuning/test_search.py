"""Search: reproducible, without repetition, and better with the model than without."""

from __future__ import annotations

import functools
import math
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.targets import lookup
from edgeir.tuning.cost_model import CostModel, label
from edgeir.tuning.features import NAMES, features
from edgeir.tuning.measure import Candidate
from edgeir.tuning.pruning import is_hopeless
from edgeir.tuning.record import Record
from edgeir.tuning.records import RecordStore
from edgeir.tuning.search import STRATEGIES, Search
from edgeir.tuning.tasks import KernelTask, kernel_tasks
from edgeir.tuning.tuner import Tuner, similarity, transfer
from tests.tuning.small_network import small_network
from tests.tuning.test_tasks import optimized

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def wide_tasks() -> list[KernelTask]:
    target = lookup("x86-64-v3").with_cores(1)
    return kernel_tasks(optimized(small_network(28, 64), target), target)


class FakeMeasurer:
    """Seconds by a formula in the knobs: a smooth valley with a little noise, the same for the same candidate."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[tuple[str, str]]]] = []

    def measure(self, task: KernelTask, candidates: Sequence[Candidate], on_record=None) -> list[Record]:
        self.calls.append((task.name, [candidate.key for candidate in candidates]))
        records = []
        for number, candidate in enumerate(candidates):
            seconds = 1e-3 * self.ratio(task, candidate)
            time = float(len(self.calls) * 1000 + number)
            records.append(Record(task.context, candidate.template, candidate.config, seconds, seconds, 1e-3, "", time))
            if on_record is not None:
                on_record(records[-1])
        return records

    def ratio(self, task: KernelTask, candidate: Candidate) -> float:
        if candidate.key == Candidate(*task.default).key:
            return 1.0
        total = 0.0
        for knob, value in candidate.config.items():
            values = list(task.spaces[candidate.template][knob])
            total += abs(values.index(value) / max(1, len(values) - 1) - 0.4)
        noise = random.Random(str(candidate.key)).uniform(0.98, 1.02)
        return (0.25 + 0.5 * total) * noise * (1.0 if candidate.template == task.default[0] else 1.3)


def run(task: KernelTask, strategy: str, seed: int, trials: int, model: CostModel | None = None) -> list[float]:
    search, measurer = Search(task, seed, strategy, model), FakeMeasurer()
    best = []
    while len(best) < trials:
        for record in measurer.measure(task, search.propose(8)):
            search.learn([record])
            best.append(search.best_ratio)
    return best


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_and_measurements_give_the_same_proposals(strategy: str, tmp_path: Path) -> None:
    calls = []
    for number, seed in enumerate((3, 3, 4)):
        measurer = FakeMeasurer()
        with RecordStore(tmp_path / f"{number}.sqlite") as store:
            Tuner(wide_tasks(), store, measurer, seed=seed, strategy=strategy).run(trials=60)
        calls.append(measurer.calls)
    assert calls[0] == calls[1]
    assert calls[2] != calls[0]


class ReplayedMeasurer:
    """Looks measurements up in a store; a candidate that is not in it is an error."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.proposed: list[tuple[str, str]] = []

    def measure(self, task: KernelTask, candidates: Sequence[Candidate], on_record=None) -> list[Record]:
        known = {Candidate(r.template, r.config).key: r for r in self._store.records(task.context)}
        records = []
        for candidate in candidates:
            self.proposed.append(candidate.key)
            records.append(known[candidate.key])
            if on_record is not None:
                on_record(records[-1])
        return records


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_replayed_measurements_give_the_same_proposals_and_other_measurements_do_not(
    strategy: str, tmp_path: Path
) -> None:
    live = FakeMeasurer()
    with RecordStore(tmp_path / "live.sqlite") as store, RecordStore(tmp_path / "again.sqlite") as again:
        Tuner(wide_tasks(), store, live, seed=5, strategy=strategy).run(trials=60)
        replayed = ReplayedMeasurer(store)
        Tuner(wide_tasks(), again, replayed, seed=5, strategy=strategy).run(trials=60)
    expected = [key for _, keys in live.calls for key in keys]
    assert replayed.proposed == expected
    # Proposals follow the measurements: with reversed ones they part ways.
    reversed_ = FakeMeasurer()
    reversed_.ratio = lambda task, candidate: 1 / FakeMeasurer.ratio(reversed_, task, candidate)  # pyright: ignore
    with RecordStore(tmp_path / "reversed.sqlite") as store:
        Tuner(wide_tasks(), store, reversed_, seed=5, strategy=strategy).run(trials=60)
    assert [key for _, keys in reversed_.calls for key in keys] != expected


PROPOSALS = """
import hashlib, sys
from edgeir.tuning.worker import import_tvm
import_tvm()
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tuner import Tuner
from tests.tuning.test_search import FakeMeasurer, wide_tasks
measurer = FakeMeasurer()
with RecordStore(sys.argv[1]) as store:
    Tuner(wide_tasks(), store, measurer, seed=6).run(trials=60)
print(hashlib.sha256(repr(measurer.calls).encode()).hexdigest())
"""


def test_proposals_do_not_depend_on_the_process(tmp_path: Path) -> None:
    processes = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", PROPOSALS, str(tmp_path / f"{seed}.sqlite")]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
    found = {process.communicate(timeout=300)[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert len(found) == 1


def test_nothing_is_proposed_twice_and_all_of_it_is_in_the_space() -> None:
    task = wide_tasks()[1]
    search, measurer = Search(task, 0), FakeMeasurer()
    seen: set[tuple[str, str]] = set()
    for _ in range(12):
        for candidate in search.propose(8):
            assert candidate.key not in seen
            seen.add(candidate.key)
            space = task.spaces[candidate.template]
            assert set(candidate.config) == set(space)
            assert all(value in space[knob] for knob, value in candidate.config.items())
            search.learn(measurer.measure(task, [candidate]))


def test_a_small_space_is_used_up() -> None:
    task = min((task for task in wide_tasks() if task.size > 1), key=lambda task: task.size)
    search, measurer = Search(task, 0), FakeMeasurer()
    for _ in range(100):
        search.learn(measurer.measure(task, search.propose(64)))
        if search.exhausted:
            break
    assert search.exhausted
    assert len(search.measured) <= task.size


def test_the_model_finds_more_than_chance_and_than_evolution_alone() -> None:
    task = wide_tasks()[1]
    final = {name: np.mean([run(task, name, seed, 64)[-1] for seed in range(5)]) for name in STRATEGIES}
    assert final["model"] < final["random"]
    assert final["model"] <= final["evolutionary"] * 1.02


def test_records_of_another_kernel_help(tmp_path: Path) -> None:
    target = lookup("x86-64-v3").with_cores(1)
    source = wide_tasks()[1]
    goal = kernel_tasks(optimized(small_network(28, 96), target), target)[1]
    assert source.task.key != goal.task.key
    with RecordStore(tmp_path / "r.sqlite") as store:
        Tuner([source], store, FakeMeasurer()).run(trials=150)
        results: dict[str, list[float]] = {"cold": [], "warm": []}
        for seed in range(3):
            warm = CostModel(seed)
            assert transfer(warm, store, [goal]) == store.count()
            results["warm"].append(float(np.mean(run(goal, "model", seed, 32, warm)[8:])))
            results["cold"].append(float(np.mean(run(goal, "model", seed, 32)[8:])))
    assert np.mean(results["warm"]) < np.mean(results["cold"])


def test_similar_kernels_teach_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = wide_tasks()[1]
    near, far = wide_tasks()[0], next(task for task in wide_tasks() if task.task.anchor == "matmul")
    other_target = lookup("cortex-a72").with_cores(1)
    foreign = next(
        task
        for task in kernel_tasks(optimized(small_network(28, 64), other_target), other_target)
        if "conv" in task.name
    )
    scores = [similarity(task.context, [goal]) for task in (near, foreign, far)]
    assert scores[0] > scores[1] and scores[0] > scores[2]
    assert similarity(goal.context, [far, goal]) == 3.0
    with RecordStore(tmp_path / "r.sqlite") as store:
        for task in (far, foreign, near):
            measured = [Candidate(*task.default)]
            store.add(FakeMeasurer().measure(task, measured))
        monkeypatch.setattr("edgeir.tuning.tuner.TRANSFERRED", 1)
        model = CostModel()
        taught: list[str] = []
        monkeypatch.setattr(model, "add", lambda owner, *_: taught.append(owner))
        assert transfer(model, store, [goal]) == 1
    assert taught == [near.context.kernel]


def test_only_so_many_transferred_records_are_scheduled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goal, *others = [task for task in wide_tasks() if task.task.anchor == "conv"]
    monkeypatch.setattr("edgeir.tuning.tuner.SCHEDULED", 5)
    with RecordStore(tmp_path / "r.sqlite") as store:
        for task in others:
            store.add(FakeMeasurer().measure(task, Search(task, 0, "random").propose(4)))
        model = CostModel()
        described: list[bool] = []
        monkeypatch.setattr(
            model, "add", lambda _, rows, __: described.extend(not np.isnan(row[len(NAMES) :]).all() for row in rows)
        )
        assert transfer(model, store, [goal]) == len(described) == 4 * len(others) > 5
    assert sum(described) == 5


def test_a_run_continues_where_the_last_one_ended(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "r.sqlite") as store:
        first = FakeMeasurer()
        Tuner(wide_tasks(), store, first, batch=8).run(trials=60)
        done = store.count()
        assert 60 <= done <= 60 + 8
        idle = FakeMeasurer()
        Tuner(wide_tasks(), store, idle, batch=8).run(trials=60)
        assert idle.calls == []
        second = FakeMeasurer()
        tuner = Tuner(wide_tasks(), store, second, batch=8)
        assert tuner.trials == done
        tuner.run(trials=100)
        before = {(name, key) for name, keys in first.calls for key in keys}
        again = [key for name, keys in second.calls if len(keys) > 1 for key in keys if (name, key) in before]
        assert again == []
        assert 100 <= store.count() <= 100 + 8


def test_the_largest_share_of_time_gets_the_most_trials(tmp_path: Path) -> None:
    tasks = wide_tasks()
    with RecordStore(tmp_path / "r.sqlite") as store:
        tuner = Tuner(tasks, store, FakeMeasurer())
        tuner.run(trials=150)
        # All defaults take the same time here, so that the kernel that is called twice matters most.
        most = max(tuner.progress, key=lambda item: item.trials)
        assert most.task.count == 2
        assert tuner.seconds < tuner.default_seconds


def test_a_default_that_once_ran_out_of_time_is_measured_again(tmp_path: Path) -> None:
    class Busy(FakeMeasurer):
        def measure(self, task: KernelTask, candidates: Sequence[Candidate], on_record=None) -> list[Record]:
            records = super().measure(task, candidates)
            if not self.measured_before:
                self.measured_before = True
                records = [Record(r.context, r.template, r.config, error="timeout") for r in records]
            for record in records:
                (on_record or (lambda _: None))(record)
            return records

        measured_before = False

    with RecordStore(tmp_path / "r.sqlite") as store:
        tuner = Tuner(wide_tasks()[:1], store, Busy(), batch=4)
        tuner.run(trials=30)
        assert tuner.progress[0].default_seconds is not None
        assert tuner.trials >= 30


def test_what_was_fast_by_luck_is_measured_again_and_does_not_stay(tmp_path: Path) -> None:
    class Lucky(FakeMeasurer):
        """All take the default's time but for a tenth, which at the first time seem to take half of it."""

        def __init__(self) -> None:
            super().__init__()
            self.known: set[tuple[str, str]] = set()

        def ratio(self, task: KernelTask, candidate: Candidate) -> float:
            lucky = candidate.key not in self.known and random.Random(str(candidate.key)).random() < 0.1
            self.known.add(candidate.key)
            return 0.5 if lucky else 1.0

    with RecordStore(tmp_path / "r.sqlite") as store:
        measurer = Lucky()
        tuner = Tuner(wide_tasks()[:1], store, measurer, batch=12)
        tuner.run(trials=120)
        repeated = [keys[0] for _, keys in measurer.calls if len(keys) == 1]
        assert len(set(repeated)) >= 5
        assert tuner.progress[0].search.best_ratio > 0.7
        assert tuner.progress[0].search.is_confirmed


def test_without_a_limit_there_is_no_run(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "r.sqlite") as store, pytest.raises(EdgeIRError, match="limit"):
        Tuner(wide_tasks(), store, FakeMeasurer()).run()


def test_tiles_that_spill_are_pruned_and_defaults_never_are() -> None:
    for name in ("x86-64-v3", "x86-64-v4", "cortex-a72"):
        target = lookup(name).with_cores(1)
        for task in kernel_tasks(optimized(small_network(28, 64), target), target):
            assert not is_hopeless(task, *task.default)
            row = features(task, *task.default)
            assert row.shape == (len(NAMES),)
            assert not np.isinf(row).any()
    task = next(task for task in wide_tasks() if task.default[0] == "conv_pointwise")
    largest = {knob: max(values) for knob, values in task.spaces["conv_pointwise"].items()}  # pyright: ignore
    assert is_hopeless(task, "conv_pointwise", largest)


def test_failures_are_the_worst_that_the_model_learns() -> None:
    assert label(math.inf) > label(2.0) > label(1.0) == 0.0 > label(0.5)
