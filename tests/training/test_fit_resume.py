"""A run that is killed and started again ends where an uninterrupted one does, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeir.errors import EdgeIRError
from edgeir.training.fit import fit
from edgeir.training.metrics_log import read_metrics

SCRIPT = Path(__file__).with_name("interrupted_run.py")


def _train(folder: Path, kind: str, *kills: str) -> dict[str, np.ndarray]:
    """The weights after a run that was killed at these steps."""
    command = [sys.executable, str(SCRIPT), str(folder), kind, *kills]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    with np.load(folder / "weights.npz") as archive:
        return {name: archive[name] for name in archive.files}


# Five steps an epoch, a checkpoint every three and at the end of each epoch: before the first checkpoint, between two
# within an epoch, right after one, while one is written, and at the last step.
@pytest.mark.parametrize(
    ("kind", "kills"),
    [("arrays", ["2", "9", "w10", "13"]), ("dataset", ["9", "20"]), ("loader", ["4", "w8", "14"]), ("bfloat16", ["9"])],
)
@pytest.mark.slow
def test_killed_runs_end_in_the_same_place(kind: str, kills: list[str], tmp_path: Path) -> None:
    expected, got = _train(tmp_path / "whole", kind), _train(tmp_path / "broken", kind, *kills)
    assert expected.keys() == got.keys()
    for name, array in expected.items():
        assert array.tobytes() == got[name].tobytes(), name
    rows = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert len(rows) == 24
    assert read_metrics(tmp_path / "broken" / "metrics.jsonl") == rows


def test_a_finished_run_is_not_repeated_and_another_run_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    data = (rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 5, 40))
    steps: list[int] = []

    def train(epochs: int) -> np.ndarray:
        torch.manual_seed(0)
        module = torch.nn.Linear(6, 5)
        fit(module, data, epochs=epochs, batch_size=8, folder=tmp_path, on_step=lambda step, _: steps.append(step))
        return module.state_dict()["weight"].numpy()

    first = train(1)
    assert steps == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(train(1), first)
    assert len(steps) == 5
    with pytest.raises(EdgeIRError, match="belongs to another run"):
        train(2)
