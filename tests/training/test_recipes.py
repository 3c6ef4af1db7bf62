"""Recipes: stages are run once each, a killed recipe ends where an uninterrupted one does, mistakes are named."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import load_graph, print_graph, save_graph
from edgeir.ir.evaluate import evaluate
from edgeir.training.recipes import Distill, Recipe, Stage, read_recipe, run_recipe
from edgeir.training.recipes.report import StageReport

SCRIPT = Path(__file__).with_name("interrupted_recipe.py")


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("interrupted_recipe", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return _script()


def _without_times(folder: Path) -> list[dict]:
    stages = json.loads((folder / "report.json").read_text())["stages"]
    return [{key: value for key, value in stage.items() if key != "seconds"} for stage in stages]


def test_stages_do_what_they_say(script: ModuleType, tmp_path: Path) -> None:
    begun: list[str] = []
    report = run_recipe(script.recipe(), script.data(), tmp_path, on_stage=begun.append)
    assert begun == ["original", "train", "prune-1", "prune-2", "quantize"]
    original, trained, first, second, quantized = report.stages
    assert trained.metrics["accuracy"] > original.metrics["accuracy"]
    assert original.parameters == trained.parameters == 6 * 8 + 8 * 3
    # Pruned weights stay zero while the others are trained: 30 % of 48 and of 24, then 60 %.
    assert (first.nonzero, second.nonzero) == (72 - 14 - 7, 72 - 29 - 14)
    # Weights in 8 bits, a scale for each column of a matrix, and scales and zeros of activations.
    assert quantized.bytes < 0.6 * second.bytes
    graph = load_graph(tmp_path / "04-quantize" / "graph.txt")
    x, labels = script.data().test
    answers = evaluate(graph, {"x": x})["y"].argmax(1)
    assert quantized.metrics["accuracy"] == pytest.approx((answers == labels).mean())
    assert json.loads((tmp_path / "report.json").read_text())["stages"] == [stage.to_dict() for stage in report.stages]
    assert "prune-2" in str(report)


def test_what_is_done_is_not_repeated(script: ModuleType, tmp_path: Path) -> None:
    first = run_recipe(script.recipe(), script.data(), tmp_path)
    begun: list[str] = []
    again = run_recipe(script.recipe(), script.data(), tmp_path, on_stage=begun.append)
    assert begun == [] and again == first
    run_recipe(script.recipe(epochs=3), script.data(), tmp_path, on_stage=begun.append)
    assert begun == ["quantize"]
    other = script.data()
    other.train = (other.train[0] + 1, other.train[1])
    run_recipe(script.recipe(), other, tmp_path, on_stage=begun.append)
    assert begun[1:] == ["original", "train", "prune-1", "prune-2", "quantize"]


def test_a_foreign_folder_is_left_alone(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "00-original").mkdir()
    (tmp_path / "00-original" / "thesis.txt").write_text("years of work")
    with pytest.raises(EdgeIRError, match="holds something else"):
        run_recipe(script.recipe(), script.data(), tmp_path)
    assert (tmp_path / "00-original" / "thesis.txt").exists()


@pytest.mark.slow
def test_a_killed_recipe_ends_in_the_same_place(script: ModuleType, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    kills = ["graph-1", "file-2", "step-3", "step-6", "graph-1", "file-3", "step-9", "graph-3", "file-2"]
    command = [sys.executable, str(SCRIPT), str(broken), *kills]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    run_recipe(script.recipe(), script.data(), whole)
    assert _without_times(broken) == _without_times(whole)
    graphs = [print_graph(load_graph(folder / "04-quantize" / "graph.txt")) for folder in (whole, broken)]
    assert graphs[0] == graphs[1]


def test_latency_and_artifact_are_asked_of_the_machine(script: ModuleType, tmp_path: Path) -> None:
    from edgeir.training.recipes import Machine

    seen: list[tuple[int, ...]] = []

    def latency(graph) -> float:
        seen.append(graph.inputs[0].type.static_shape)
        if len(seen) == 2:
            raise EdgeIRError("cannot be compiled")
        return 0.25

    machine = Machine(latency=latency, deploy=lambda graph, path: StageReport("compiled", {"accuracy": 0.5}, bytes=7))
    report = run_recipe(replace(script.recipe(), batch=3), script.data(), tmp_path, machine)
    assert seen == [(3, 6)] * 5
    assert [stage.latency for stage in report.stages] == [0.25, None, 0.25, 0.25, 0.25, None]
    assert "train: no latency: cannot be compiled" in str(report)
    assert report.stages[-1].bytes == 7 and report.artifact is not None


# Recipes as text


TEXT = """
[model]
path = "model.txt"
threads = 1
metrics = ["accuracy", "top-5"]

[data]
train = "train.npz"
test = "test.npz"

[training]
batch-size = 16
learning-rate = 0.02

[[stage]]
name = "train"
epochs = 2
augment = ["flip"]

[[stage]]
name = "prune"
passes = ["prune-weights{ratio=0.3}", "prune-weights{ratio=0.6}"]
steps = 5
distill = { teacher = "train", response = 0.5, pairs = [["hidden", "hidden"]] }

[[stage]]
name = "quantize"
passes = "insert-qdq"
"""


def _write(script: ModuleType, folder: Path, text: str) -> Path:
    save_graph(script.network(), folder / "model.txt")
    data = script.data()
    for name, (inputs, targets) in (("train", data.train), ("test", data.test)):
        np.savez(folder / f"{name}.npz", inputs=inputs, targets=targets)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_from_toml(script: ModuleType, tmp_path: Path) -> None:
    recipe, read = read_recipe(_write(script, tmp_path, TEXT))
    assert recipe.threads == 1 and recipe.metrics == ("accuracy", "top-5")
    train, prune, quantize = recipe.stages
    assert train.train is not None and train.train.augment == ("flip",)
    assert train.train.options.epochs == 2 and train.train.options.learning_rate == 0.02
    assert prune.train is not None and prune.train.options.steps == 5 and prune.train.options.epochs is None
    assert prune.train.distill == Distill("train", response=0.5, pairs=(("hidden", "hidden"),))
    assert quantize == Stage("quantize", ("insert-qdq",))
    assert [stage.name for stage in recipe.rounds()] == ["train", "prune-1", "prune-2", "quantize"]
    np.testing.assert_array_equal(read().train[0], script.data().train[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('path = "model.txt"', 'path = "model.txt"\nthread = 1', r"unknown entry\n.*\[model\](.|\n)*got: thread"),
        ("epochs = 2", "epoch = 2", r"unknown entry\n.*stage 1(.|\n)*got: epoch"),
        ("epochs = 2", 'epochs = "two"', "entry of the wrong kind\n.*stage 1, epochs"),
        ("epochs = 2", "epochs = 2.5", "entry of the wrong kind\n.*stage 1, epochs"),
        ("epochs = 2\n", "", "does not train has training options"),
        ('name = "prune"', 'name = "train"', "two stages have one name"),
        ('name = "prune"', 'name = "../prune"', "not a name for a stage"),
        ("prune-weights{ratio=0.3}", "prune-wieghts{ratio=0.3}", "unknown pass(.|\n)*did you mean prune-weights"),
        ('teacher = "train"', 'teacher = "quantize"', "no such teacher"),
        ('train = "train.npz"\n', "", r"has no train data"),
        ("[[stage]]", "[[stages]]", "unknown entry"),
        ("[data]", "[data", "cannot read the recipe"),
    ],
)
def test_mistakes_in_recipes_are_named(script: ModuleType, tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _write(script, tmp_path, TEXT.replace(old, new))
    with pytest.raises(EdgeIRError, match=message):
        read_recipe(path)


def test_a_failing_stage_is_named(script: ModuleType, tmp_path: Path) -> None:
    recipe = script.recipe()
    data = script.data()
    data.train = (data.train[0][:, :5], data.train[1])
    with pytest.raises(EdgeIRError, match=r"batch has the wrong shape\n.*stage 'train', epoch 1, step 1"):
        run_recipe(recipe, data, tmp_path)


def test_recipes_without_stages() -> None:
    with pytest.raises(EdgeIRError, match="needs stages"):
        Recipe("model.onnx").rounds()
    with pytest.raises(EdgeIRError, match="does nothing"):
        Recipe("model.onnx", (Stage("idle"),)).rounds()
