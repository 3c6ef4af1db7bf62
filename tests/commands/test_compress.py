"""`edgeir compress`: from a recipe's file to an artifact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.cli import app
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, save_graph
from edgeir.runtime import Session

RECIPE = """
[model]
path = "model.txt"
threads = 1
batch = 4

[data]
train = "train.npz"
test = "test.npz"

[[stage]]
name = "train"
epochs = 4
batch-size = 16
learning-rate = 0.05

[[stage]]
name = "prune"
passes = "prune-channels{ratio=0.5,score=taylor,round-to=1}"
epochs = 2
batch-size = 16
learning-rate = 0.02
distill = { teacher = "train", hard = 0.5, response = 0.5 }

[[stage]]
name = "quantize"
passes = "insert-qdq,quantize-weights{trainable=true}"
epochs = 1
batch-size = 16
learned-scales = true
"""


def _write(folder: Path, recipe: str = RECIPE) -> np.ndarray:
    rng = np.random.default_rng(0)
    b = Builder("dense")
    x = b.input("x", "float32[2, 6]")  # a fixed batch, which is left open for training
    h = b.relu(b.matmul(x, rng.normal(0, 0.5, (6, 16)).astype(np.float32), name="first"), name="hidden")
    graph = b.outputs(y=b.matmul(h, rng.normal(0, 0.5, (16, 3)).astype(np.float32), name="last"))
    save_graph(graph, folder / "model.txt")
    x = rng.normal(size=(142, 6)).astype(np.float32)
    y = (x @ rng.normal(size=(6, 3))).argmax(1)
    np.savez(folder / "train.npz", inputs=x[:96], targets=y[:96])
    np.savez(folder / "test.npz", inputs=x[96:], targets=y[96:])
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    return x[96:]


@pytest.mark.slow
def test_a_recipe_becomes_an_artifact(tmp_path: Path) -> None:
    inputs = _write(tmp_path)
    command = ["compress", str(tmp_path / "recipe.toml"), "--threads", "1", "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    names = [stage["name"] for stage in report["stages"]]
    assert names == ["original", "train", "prune", "quantize", "compiled"]
    stages = dict(zip(names, report["stages"], strict=True))
    assert stages["prune"]["parameters"] == stages["train"]["parameters"] / 2
    assert stages["prune"]["macs"] == stages["train"]["macs"] / 2
    assert stages["train"]["metrics"]["accuracy"] > stages["original"]["metrics"]["accuracy"]
    assert all(stage["latency"] > 0 for stage in report["stages"])
    session = Session(report["artifact"])
    assert session.inputs[0].shape == (4, 6)
    # 46 samples: the last batch is filled up.
    answers = np.concatenate([session.run({"x": inputs[i : i + 4]})["y"] for i in range(0, 44, 4)])
    assert answers.shape == (44, 3)
    difference = stages["compiled"]["metrics"]["accuracy"] - stages["quantize"]["metrics"]["accuracy"]
    assert abs(difference) <= 1 / 46
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(again.stdout) == report and "…" not in again.stderr
    table = CliRunner().invoke(app, command[:-1], catch_exceptions=False)
    assert "compiled" in table.stdout and "accuracy" in table.stdout


def test_a_missing_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EdgeIRError, match="cannot read the recipe"):
        CliRunner().invoke(app, ["compress", str(tmp_path / "none.toml")], catch_exceptions=False)
