"""The C++ example, compiled as its README says, runs an artifact and agrees with its golden pair."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeir

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "deploy_cpp"


def readme_commands(text: str) -> str:
    """The commands of the README that build the program."""
    lines = [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ")]
    return "\n".join(line for line in lines if not line.startswith(("edgeir ", "./")))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_example_runs_an_artifact(shared_models: Path, tmp_path: Path) -> None:
    for path in EXAMPLE.iterdir():
        shutil.copy(path, tmp_path)
    script = f"set -e\nexport PATH={Path(sys.executable).parent}:$PATH\n" + readme_commands(
        (EXAMPLE / "README.md").read_text(encoding="utf-8")
    )
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, timeout=180)
    artifact = edgeir.compile(
        shared_models / "mnist_cnn.onnx", shapes={"input": (2, 1, 28, 28)}, output=tmp_path / "model.edgeir"
    )
    inputs, golden = artifact.load_golden()
    np.save(tmp_path / "input.npy", inputs["input"])
    result = subprocess.run(
        ["./deploy", "model.edgeir", "out_", "input.npy"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    got = np.load(tmp_path / "out_0.npy", allow_pickle=False)
    assert got.shape == golden["logits"].shape and got.dtype == np.float32
    assert np.max(np.abs(got - golden["logits"])) <= 1e-5 * np.ptp(golden["logits"])
    missing = subprocess.run(["./deploy", "nothing", "out_"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert missing.returncode == 1 and missing.stderr.startswith("deploy: ")
