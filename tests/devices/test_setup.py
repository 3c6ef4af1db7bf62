"""Setting up the emulated device: what is missing is told, and what is there already is left alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeir.devices import EmulatedDevice, default_folder, device_named, missing_packages, set_up
from edgeir.devices.tensor_file import read_tensors, write_tensors
from edgeir.errors import EdgeIRError
from edgeir.runtime import TensorSpec
from edgeir.runtime.dtypes import DTYPES, numpy_dtype


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert missing_packages() == ["qemu-user", "g++-aarch64-linux-gnu"]
    with pytest.raises(EdgeIRError, match=r"apt-get install qemu-user g\+\+-aarch64-linux-gnu"):
        set_up(tmp_path / "device")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_installed_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def record(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "not allowed")

    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(subprocess, "run", record)
    with pytest.raises(EdgeIRError):
        set_up(tmp_path / "device")
    assert commands == []
    with pytest.raises(EdgeIRError, match="could not be installed"):
        set_up(tmp_path / "device", install=True)
    assert [command[:2] for command in commands] == [["apt-get", "install"]]


def test_a_device_that_is_not_set_up_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().is_relative_to(tmp_path)
    with pytest.raises(EdgeIRError, match="edgeir device emulate aarch64"):
        device_named("qemu-aarch64")


@pytest.mark.qemu
def test_a_folder_with_other_things_is_left_alone(emulated: EmulatedDevice, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(EdgeIRError, match="no emulated device in this folder"):
        set_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.qemu
def test_a_device_that_is_up_to_date_is_left_alone(emulated: EmulatedDevice) -> None:
    before = (emulated.folder / "runner").stat().st_mtime_ns
    assert set_up(emulated.folder) == emulated.folder
    assert (emulated.folder / "runner").stat().st_mtime_ns == before


def test_tensor_files_hold_every_element_type_and_rank(tmp_path: Path) -> None:
    specs = [TensorSpec(f"t{i}", dtype, (2, i % 3, 3)) for i, dtype in enumerate(DTYPES)]
    specs.append(TensorSpec("scalar", "float32", ()))
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.integers(0, 7, spec.shape)).astype(numpy_dtype(spec.dtype)) for spec in specs]
    write_tensors(tmp_path / "file", specs, arrays)
    for got, array in zip(read_tensors(tmp_path / "file", specs), arrays, strict=True):
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got.astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"x" + d, lambda d: d[:10]])
def test_damaged_tensor_files_are_refused(tmp_path: Path, damage) -> None:
    specs = [TensorSpec("t", "float32", (2, 3))]
    write_tensors(tmp_path / "file", specs, [np.zeros((2, 3), np.float32)])
    data = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(damage(data))
    with pytest.raises(EdgeIRError, match="damaged"):
        read_tensors(tmp_path / "file", specs)
