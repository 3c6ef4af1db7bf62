"""The rates of both tuners, on a network of a few convolutions."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.metaschedule import MetaSchedule
from benchmarks.networks import Network, network
from benchmarks.tuning_rate import edgeir_rate, metaschedule_rate
from edgeir.export import export_model
from tests.tuning.small_network import small_network


@pytest.fixture
def item(tmp_path: Path) -> Network:
    export_model(small_network(8, 8), tmp_path / "small.onnx")
    return network(str(tmp_path / "small.onnx"))


def test_edgeir_s_rate_counts_what_was_measured(item: Network) -> None:
    row = edgeir_rate(item, 3.0, 1)
    assert row["trials"] == sum(row["errors"].values()) > 0
    assert row["trials_per_second"] == pytest.approx(row["trials"] / row["seconds"])


@pytest.mark.slow
def test_metaschedule_measures_whole_rounds(item: Network) -> None:
    with MetaSchedule(item.path, item.shapes, 1, trials=4) as search:
        # Two equal layers are one kernel.
        assert search.prepare() == 3
        progress = search.measure(60.0)
    assert progress.trials == sum(progress.errors.values()) >= 4
    assert progress.errors["none"] >= 4
    assert 0 < progress.build_seconds + progress.run_seconds < progress.seconds < 61


def test_the_row_of_a_search_that_fails_says_why(item: Network, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    row = metaschedule_rate(Network("broken", tmp_path / "broken.onnx", item.shapes), 1.0, 1)
    assert "DecodeError" in row["failure"] and "trials" not in row
