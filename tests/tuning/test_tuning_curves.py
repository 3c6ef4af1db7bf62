"""The replay of recorded measurements: among those only, without a look ahead, and what was made of it."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tuning_curves
from benchmarks.tuning_curves import COLD, Table, TableSearch, plot, replay, tables
from edgeir.tuning.cost_model import CostModel
from edgeir.tuning.measure import Candidate
from edgeir.tuning.record import record_to_line
from edgeir.tuning.search import STRATEGIES, Search
from tests.tuning.test_search import FakeMeasurer, wide_tasks

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@functools.cache
def lines() -> tuple[str, ...]:
    """Random configurations of two convolutions."""
    found = []
    for task in [task for task in wide_tasks() if task.task.anchor == "conv"][:2]:
        search = Search(task, 0, "random")
        found += map(record_to_line, FakeMeasurer().measure(task, search.propose(40)))
    return tuple(found)


@functools.cache
def found() -> tuple[Table, ...]:
    return tuple(tables(lines()))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_entry_is_proposed_once_and_nothing_else(strategy: str) -> None:
    table = found()[0]
    search = TableSearch(table.task, 0, strategy, table.records)
    proposed = []
    while candidates := search.propose(8):
        proposed += [item.key for item in candidates]
        search.learn(search.measure(candidates))
    assert len(proposed) == len(set(proposed))
    assert set(proposed) == {Candidate(r.template, r.config).key for r in table.records}


def test_the_model_learns_a_kernel_s_measurements_only_after_they_were_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    proposed: set[str] = set()
    taught: dict[CostModel, list[str]] = {}
    propose, add = TableSearch.propose, CostModel.add

    def watched_add(model: CostModel, owner: str, rows: np.ndarray, ratios) -> None:
        taught.setdefault(model, []).extend([owner] * len(ratios))
        add(model, owner, rows, ratios)

    def watched_propose(search: TableSearch, count: int) -> list[Candidate]:
        known = taught.get(search.model, [])
        expected = len(search.measured) if search.strategy == "model" else 0
        assert known.count(search.task.context.kernel) == expected
        proposed.add(search.strategy)
        return propose(search, count)

    monkeypatch.setattr(CostModel, "add", watched_add)
    monkeypatch.setattr(TableSearch, "propose", watched_propose)
    replay(lines(), trials=16, seeds=(0,))
    assert proposed == set(STRATEGIES)


def test_curves_fall_to_the_best_and_are_the_same_again() -> None:
    result = replay(lines(), trials=40, seeds=(0,))
    assert set(result["curves"]) == {*STRATEGIES, COLD}
    for seeds in result["curves"].values():
        for curve in seeds:
            assert len(curve) == 40
            assert all(a >= b for a, b in itertools.pairwise(curve))
            assert curve[-1] == pytest.approx(1.0)
    assert replay(lines(), trials=40, seeds=(0,)) == result
    assert plot(result).count("<polyline") == 4


def test_repeated_measurements_of_a_table_count_once_with_an_undisturbed_yardstick() -> None:
    records = [json.loads(line) for line in lines()]
    slower = {**records[0], "minimum": records[0]["minimum"] * 2, "median": records[0]["median"] * 2, "time": 1e9}
    slower["yardstick"] = 5.0
    (before, *_), (after, *_) = tables(lines()), tables([*lines(), json.dumps(slower)])
    assert {r.ratio for r in before.records} == {r.ratio for r in after.records}


def test_compressed_tables(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.gz"):
        with tuning_curves.opened(tmp_path / name, "at") as file:
            file.write("one\n")
        with tuning_curves.opened(tmp_path / name, "rt") as file:
            assert file.read() == "one\n"
    assert (tmp_path / "a.jsonl.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_the_recorded_curves_show_the_model_ahead() -> None:
    curves = json.loads((RESULTS / "tuning_curves.json").read_text(encoding="utf-8"))["curves"]
    above = {name: np.mean(seeds, axis=0) - 1 for name, seeds in curves.items()}
    for trials in (10, 20, 40):
        assert above["model"][trials - 1] < 0.7 * min(above["random"][trials - 1], above["evolutionary"][trials - 1])
