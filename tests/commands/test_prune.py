"""`edgeir prune`: a smaller ONNX file that other engines run, the table, the report, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeir.export import save, to_onnx
from edgeir.frontend import load
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.passes.pruning.report import ChannelReport
from edgeir.prune import prune
from tests.passes.pruning.masked_channels import macs, masked
from tests.test_cli import edgeir, refused

WINDOW = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}


def network() -> Graph:
    random = np.random.default_rng(0)
    b = Builder("net")
    x = b.input("x", "float32[N, 3, 8, 8]")
    x = b.relu(b.conv(x, random.standard_normal((16, 3, 3, 3)).astype(np.float32), name="first", **WINDOW))
    y = b.conv(x, random.standard_normal((16, 16, 3, 3)).astype(np.float32), name="second", **WINDOW)
    pooled = b.reduce_mean(b.add(x, y), axes=(2, 3), keepdims=False)
    return b.outputs(y=b.matmul(pooled, random.standard_normal((16, 5)).astype(np.float32), name="head"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    save(to_onnx(network()), path)
    return path


def test_the_file_is_a_smaller_model_of_the_same_interface(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "pruned.onnx"
    result = edgeir("prune", model, "--ratio", "0.5", "-t", "cortex-a72", "-o", output)
    assert result.returncode == 0, result.stderr
    assert "16 → 8" in result.stdout and "it is an output of the graph" in result.stdout
    onnx.checker.check_model(str(output), full_check=True)
    assert output.stat().st_size < 0.4 * model.stat().st_size
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    whole = prune(model, "prune-channels{ratio=0.5}", target="cortex-a72")
    assert isinstance(whole.details, ChannelReport)
    expected = evaluate(masked(whole.simplified, whole.details.removed), {"x": x})["y"]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_report_and_json(model: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ("--target-macs", "0.5x", "--scope", "global", "--round-to", "2", "--json")
    result = edgeir("prune", model, *arguments, "-o", tmp_path / "p.onnx", "--report", report)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found == json.loads(report.read_text())
    assert found["after"]["macs"] <= 0.5 * found["before"]["macs"]
    channels = [(row["before"]["channels"], row["after"]["channels"]) for row in found["layers"]]
    assert len(channels) == 3 and channels[0][1] < channels[0][0] and channels[2] == (5, 5)


@pytest.mark.parametrize("granularity", ["weight", "2:4", "block"])
def test_zeros(model: Path, tmp_path: Path, granularity: str) -> None:
    output = tmp_path / "sparse.onnx"
    result = edgeir("prune", model, "--granularity", granularity, "-t", "cortex-a72", "-o", output)
    assert result.returncode == 0, result.stderr
    zeros = [float((value.data == 0).mean()) for value in load(output).constants if value.data.ndim > 1]
    assert zeros and all(0.2 < share < 0.65 for share in zeros)


def test_activations_of_calibration_data(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "samples.npz"
    np.savez(data, x=np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32))
    result = edgeir("prune", model, "--score", "activation", "--calibration", data, "-o", tmp_path / "p.onnx")
    assert result.returncode == 0, result.stderr
    np.savez(data, x=np.zeros((4, 3, 7, 8), np.float32))
    refused(edgeir("prune", model, "--score", "activation", "--calibration", data, "-o", tmp_path / "q.onnx"), "x")
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize("score", ["gradient", "taylor"])
def test_gradients_of_labelled_data(model: Path, tmp_path: Path, score: str) -> None:
    pytest.importorskip("torch", reason="gradients need PyTorch")
    data, labels, output = tmp_path / "samples.npz", tmp_path / "labels.npy", tmp_path / "p.onnx"
    np.savez(data, x=np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32))
    np.save(labels, np.array([0, 3, 1, 4]))
    arguments = ("--score", score, "--calibration", data, "-t", "cortex-a72", "-o", output)
    result = edgeir("prune", model, *arguments, "--labels", labels)
    assert result.returncode == 0, result.stderr
    assert "16 → 8" in result.stdout
    refused(edgeir("prune", model, *arguments), "--labels")
    np.save(labels, np.array([0, 3]))
    refused(edgeir("prune", model, *arguments, "--labels", labels), "4 along the first axis")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ratio", "0"], "above 0 and below 1"),
        (["--ratio", "1"], "above 0 and below 1"),
        (["--ratio", "nan"], "above 0 and below 1"),
        (["--ratio=-0.5"], "above 0 and below 1"),
        (["--target-macs", "half"], "--target-macs"),
        (["--ratio", "0.5", "--target-macs", "0.5x"], "several options"),
        (["--score", "l3"], "--score"),
        (["--scope", "all"], "--scope"),
        (["--granularity", "5:4"], "keeps everything"),
        (["--granularity", "weight", "--target-macs", "0.5x"], "save no multiplications"),
        (["--granularity", "weight", "--score", "taylor"], "--score"),
        (["--score", "taylor"], "--calibration"),
        (["-t", "abacus"], "abacus"),
    ],
)
def test_bad_input(model: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    output = tmp_path / "p.onnx"
    refused(edgeir("prune", model, *arguments, "-o", output), words)
    assert not output.exists()


@pytest.mark.slow
def test_layers_are_measured() -> None:
    random = np.random.default_rng(0)
    b = Builder("net")
    x = b.input("x", "float32[1, 16, 28, 28]")
    for _ in range(3):
        width = x.type.static_shape[1]
        x = b.relu(b.conv(x, random.standard_normal((64, width, 3, 3)).astype(np.float32), **WINDOW))
    graph = b.outputs(y=b.reduce_mean(x, axes=(2, 3), keepdims=False))
    result = prune(graph, "prune-channels{target-latency=0.5}", measure=True)
    assert getattr(result.details, "cost", None) is not None
    assert 0.1 < macs(result.graph) / macs(result.simplified) < 0.9
