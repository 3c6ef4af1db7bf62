"""The compression table's means and limits, and the plan of its trainings."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from benchmarks.compression_table import table
from benchmarks.compression_table_plan import BATCH, STUDENT, Plan
from edgeir.ir import graph_statistics
from edgeir.training.recipes import fixed
from examples.fashion_mnist.networks import mobile_network


def _row(name: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    sizes = {"parameters": 1000, "nonzero": 500, "macs": 10**6}
    return {"settings": "s", "seed": seed, "row": name, "accuracy": accuracy, **sizes, **more}


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


def test_the_student_has_about_a_quarter_of_the_parameters() -> None:
    whole, student = (graph_statistics(fixed(g)).parameters for g in (mobile_network(), mobile_network(**STUDENT)))
    assert 0.2 <= student / whole <= 0.3
