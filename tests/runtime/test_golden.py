"""Verifying an artifact by its golden pair."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.runtime import Artifact, verify
from edgeir.runtime.golden import compare


def test_good_artifact_passes(linear: Path) -> None:
    report = verify(linear)
    assert report.passed
    assert [output.name for output in report.outputs] == ["y", "z/0"]
    assert all(output.cosine > 0.999999 for output in report.outputs)
    assert "ok" in str(report)


def test_wrong_golden_output_fails(linear: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(linear)
    inputs, outputs = artifact.load_golden()
    span = float(np.ptp(outputs["y"]))
    outputs["y"][0, 0] += 0.01 * span
    wrong = Artifact.write(tmp_path / "wrong", artifact.library, artifact.manifest, inputs, outputs).path
    report = verify(wrong)
    assert [output.passed for output in report.outputs] == [False, True]
    assert report.outputs[0].relative_error == pytest.approx(0.01, rel=0.1)
    assert not report.passed and "FAILED" in str(report)
    assert verify(wrong, tolerance=0.1).passed
    with pytest.raises(EdgeIRError, match="tolerance"):
        verify(wrong, tolerance=-1.0)


def test_figures_by_hand() -> None:
    report = compare("y", "float32", np.array([0, 3], "float32"), np.array([0, 4], "float32"), 0.25)
    assert (report.max_error, report.relative_error, report.cosine, report.passed) == (1.0, 0.25, 1.0, True)
    report = compare("y", "float32", np.array([1, 0], "float32"), np.array([0, 1], "float32"), 1e-3)
    assert (report.max_error, report.relative_error, report.cosine, report.passed) == (1.0, 1.0, 0.0, False)


def test_special_values() -> None:
    nan, inf = math.nan, math.inf
    assert compare("y", "float32", np.array([nan, inf, 1], "float32"), np.array([nan, inf, 1], "float32"), 0).passed
    assert compare(
        "y", "float32", np.array([nan, inf, 1, 0], "float32"), np.array([nan, inf, 1.001, 0], "float32"), 0.01
    ).passed
    assert not compare("y", "float32", np.array([nan, 1], "float32"), np.array([1, 1], "float32"), 1e9).passed
    assert not compare("y", "float32", np.array([1, 1], "float32"), np.array([1, -inf], "float32"), 1e9).passed
    assert not compare("y", "float32", np.array([inf, 1], "float32"), np.array([-inf, 1], "float32"), 1e9).passed
    assert compare("y", "float32", np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), 0).passed


def test_integers_must_be_equal() -> None:
    assert not compare("y", "int8", np.array([1, 2], "int8"), np.array([1, 3], "int8"), 0.0).passed
    assert not compare("y", "int64", np.array([2**62], "int64"), np.array([2**62 + 1], "int64"), 0.0).passed
    assert not compare("y", "bool", np.array([True]), np.array([False]), 0.0).passed
    assert compare("y", "uint8", np.array([255, 0], "uint8"), np.array([255, 0], "uint8"), 0.0).passed
