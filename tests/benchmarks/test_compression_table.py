"""The compression table's means and limits, and the plan of its trainings."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from benchmarks.compression_table import table
from benchmarks.compression_table_plan import BATCH, STUDENT, Plan
from benchmarks.compression_table_results import add_row, change_row, claim, has_row, read_results
from benchmarks.compression_table_rows import ROWS, UNTRAINED
from edgeir.ir import graph_statistics
from edgeir.training.recipes import fixed
from examples.fashion_mnist.networks import mobile_network


def _row(name: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    sizes = {"parameters": 1000, "nonzero": 500, "macs": 10**6}
    return {"settings": "s", "seed": seed, "row": name, "accuracy": accuracy, **sizes} | more


def test_rows_are_means_and_what_was_compiled_counts() -> None:
    compiled = {"accuracy": 89.0, "agreement": 99.9, "mean_steps": 0.1, "constant_bytes": 2048, "code_bytes": 1}
    rows = [_row("float", 0, 90.0), _row("float", 1, 92.0), _row("QAT 4-bit weights", 0, 89.9, compiled=compiled)]
    lines = table(rows).splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:4] == ["float", "2", "91.00", "1.41"]
    assert " 1.00" in lines[2] and lines[2].endswith("misses its limit")


def test_a_plan_scales_steps() -> None:
    samples = 100 * BATCH
    assert Plan(1.0).options(2.0, samples, 1e-3, 0).steps == 200
    assert Plan(0.25).options(2.0, samples, 1e-3, 0).steps == 50
    assert Plan(1e-9).options(2.0, samples, 1e-3, 0).steps == 1


def test_the_student_has_a_quarter_of_the_parameters() -> None:
    whole, student = (graph_statistics(fixed(g)).parameters for g in (mobile_network(), mobile_network(**STUDENT)))
    assert 0.2 <= student / whole <= 0.25


def test_every_trained_row_states_its_epochs() -> None:
    plan = Plan()
    stated = {name: plan.settings(name)["epochs"] for name in ROWS if name not in UNTRAINED}
    assert stated["student, plain"] == plan.student and stated["QAT 4-bit weights"] == plan.aware
    json.dumps([plan.settings(name) for name in stated])


def _add_rows(path: Path, seed: int) -> None:
    for index in range(20):
        add_row(path, {"format": 1}, f"key{seed}", {"seed": seed}, _row(f"row {index}", seed, 90.0, settings="key"))


def test_processes_fill_one_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_rows, args=(path, seed)) for seed in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    document = read_results(path)
    assert len(document["results"]) == 40 and document["settings"] == {"key0": {"seed": 0}, "key1": {"seed": 1}}
    assert has_row(path, "key", 1, "row 7") and not has_row(path, "other", 1, "row 7")
    change_row(path, "key", 1, "row 7", {"latency": 3})
    assert sum(row.get("latency") == 3 for row in read_results(path)["results"]) == 1


def test_a_claim_keeps_others_out(tmp_path: Path) -> None:
    with claim(tmp_path / "row") as mine:
        assert mine
        with claim(tmp_path / "row") as second:
            assert not second
    with claim(tmp_path / "row") as again:
        assert again
