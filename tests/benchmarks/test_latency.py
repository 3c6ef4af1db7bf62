"""The latency benchmark: its report, on a model that ships with the project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import load

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "edgeir" / "models" / "mnist_cnn.onnx"


def latency(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Runs the benchmark as a user would; its report and what it printed."""
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.latency", *arguments, "--json", str(file)]
    short = ["--rounds", "2", "--turn", "0.01", "--threads", "1"]
    done = subprocess.run([*command, *short], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text()), done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    return latency(tmp_path_factory.mktemp("latency"), str(MODEL), "--against", "onnxruntime", "--profile")


def test_report_says_what_was_measured(measured: tuple[dict[str, Any], str]) -> None:
    report, text = measured
    assert report["format"] == 1
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["features"]
    assert report["settings"]["against"] == ["onnxruntime"]
    (result,) = report["results"]
    assert (result["model"], result["threads"]) == ("mnist_cnn", 1)
    assert result["shapes"] == {"input": [1, 1, 28, 28]}
    assert "mnist_cnn (input 1x1x28x28), threads 1" in text
    assert str(ROOT) not in json.dumps(report)


def test_both_contenders_ran_in_every_round_and_agree(measured: tuple[dict[str, Any], str]) -> None:
    (result,) = measured[0]["results"]
    assert list(result["contenders"]) == ["edgeir", "onnxruntime"]
    for row in result["contenders"].values():
        assert row["runs"] >= 6
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert row["error_by_range"] <= 1e-5
        assert "missing" not in row["versions"].values()
    assert result["reference"] == "onnxruntime"


def test_ratios_follow_from_the_minima(measured: tuple[dict[str, Any], str]) -> None:
    report, _ = measured
    (result,) = report["results"]
    rows = result["contenders"]
    ratio = rows["edgeir"]["min_ms"] / rows["onnxruntime"]["min_ms"]
    assert result["fastest_other"] == "onnxruntime"
    assert result["ratio"] == pytest.approx(ratio)
    (summary,) = report["summary"]
    assert summary["geometric_mean"] == pytest.approx(ratio)
    assert summary["against"]["onnxruntime"] == {"models": 1, "geometric_mean": pytest.approx(ratio)}


def test_profile_accounts_for_every_multiplication(measured: tuple[dict[str, Any], str]) -> None:
    (profile,) = measured[0]["profiles"]
    assert profile["peak"]["gflops"] > 0
    assert profile["peak"]["dram_gbs"] > 0
    # Independent of the IR: outputs × inner sizes, read from the ONNX file itself.
    graph = load(str(MODEL)).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    session = onnxruntime.InferenceSession(MODEL)
    macs = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            shape = weights[node.input[1]]
            pixels = {"Conv": (28 * 28, 14 * 14)[macs > 0], "Gemm": 1}[node.op_type]
            macs += int(np.prod(shape)) * pixels
    assert session.get_inputs()[0].shape[1:] == [1, 28, 28]
    assert sum(row["macs"] for row in profile["kernels"]) == macs
    for row in profile["kernels"]:
        assert row["us"] > 0
        assert row["alone_us"] > 0
        assert row["bytes"] > 0
        assert row["template"]


def test_a_contender_that_fails_is_a_row_that_says_why(tmp_path: Path) -> None:
    report, text = latency(tmp_path, str(MODEL), "--against", "onnxruntime", "--shape", "input=1x1x30x30")
    rows = report["results"][0]["contenders"]
    # The classifier's matrix does not fit another image size.
    assert set(rows) == {"edgeir", "onnxruntime"}
    assert all(row["failure"] for row in rows.values())
    assert rows["edgeir"]["failure"] in text
    assert report["summary"][0]["missing"] == ["mnist_cnn"]
