"""The artifact folder: what loading refuses before any code is mapped, and how writing treats what is there."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeir import targets
from edgeir.errors import ArtifactError, EdgeIRError
from edgeir.runtime import Artifact, Manifest, Session, TensorSpec
from edgeir.runtime import session as session_module
from edgeir.targets import lookup


@pytest.fixture
def no_dlopen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if the library is opened."""

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(session_module, "Library", refuse)


def rewrite(folder: Path, **changes: object) -> None:
    manifest = Manifest.load(folder / "manifest.json")
    changed = dataclasses.replace(manifest, **changes)  # pyright: ignore[reportArgumentType]
    (folder / "manifest.json").write_text(changed.to_text())


def test_write_fills_in_what_it_knows(linear: Path) -> None:
    artifact = Artifact.load(linear)
    artifact.check()
    assert sorted(entry.name for entry in linear.iterdir()) == ["golden.npz", "manifest.json", "model.so"]
    assert artifact.manifest.required_features == artifact.manifest.target.required
    assert {"edgeir", "tvm", "tvm_ffi"} <= artifact.manifest.versions.keys()


@pytest.mark.parametrize("name", ["model.so", "golden.npz", "manifest.json"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
def test_one_changed_byte_is_noticed(linear: Path, name: str, place: float, no_dlopen: None) -> None:
    data = bytearray((linear / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (linear / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=name.replace(".", "\\.")):
        Session(linear)


@pytest.mark.parametrize("name", ["model.so", "golden.npz", "manifest.json"])
def test_missing_file(linear: Path, name: str, no_dlopen: None) -> None:
    (linear / name).unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        Session(linear)


@pytest.mark.parametrize("name", ["model.so", "golden.npz", "manifest.json"])
def test_truncated_file(linear: Path, name: str, no_dlopen: None) -> None:
    data = (linear / name).read_bytes()
    (linear / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError):
        Session(linear)


def test_not_a_folder(linear: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="got: nothing there"):
        Session(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="got: a file"):
        Session(linear / "model.so")
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        Session(tmp_path)


def test_missing_cpu_feature_is_a_sentence(linear: Path, monkeypatch: pytest.MonkeyPatch, no_dlopen: None) -> None:
    rewrite(linear, required_features=("some_feature", "avx2"))
    monkeypatch.setattr(targets, "cpu_features", lambda: frozenset({"avx2"}))
    with pytest.raises(ArtifactError, match="CPU lacks some_feature, which the artifact's code uses"):
        Session(linear)


def test_other_architecture(linear: Path, no_dlopen: None) -> None:
    other = lookup("cortex-a72" if targets.host_architecture() == "x86_64" else "x86-64-v2")
    rewrite(linear, target=other, required_features=())
    with pytest.raises(ArtifactError, match="another architecture"):
        Session(linear)


def test_other_operating_system(linear: Path, no_dlopen: None) -> None:
    here = Manifest.load(linear / "manifest.json").target
    system = "linux-gnu" if "darwin" in here.triple else "apple-darwin23"
    triple = f"{here.triple.split('-')[0]}-{system}"
    rewrite(linear, target=dataclasses.replace(here, triple=triple))
    with pytest.raises(ArtifactError, match="another operating system"):
        Session(linear)


def test_library_of_another_model(linear: Path) -> None:
    inputs = Manifest.load(linear / "manifest.json").inputs
    rewrite(linear, inputs=(*inputs, TensorSpec("more", "float32", (1,))))
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        Session(linear)


def test_outputs_of_another_model(linear: Path) -> None:
    outputs = Manifest.load(linear / "manifest.json").outputs
    rewrite(linear, outputs=(TensorSpec("y", "float32", (4, 15)), *outputs[1:]))
    with pytest.raises(ArtifactError, match="outputs do not match"):
        Session(linear).run({"x": np.zeros((4, 8), np.float32)})


def test_file_that_is_no_library(linear: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(linear)
    (tmp_path / "text.so").write_text("not a library")
    inputs, outputs = artifact.load_golden()
    fake = Artifact.write(tmp_path / "fake", tmp_path / "text.so", artifact.manifest, inputs, outputs)
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        Session(fake.path)


def write_again(source: Path, path: Path) -> Artifact:
    artifact = Artifact.load(source)
    inputs, outputs = artifact.load_golden()
    return Artifact.write(path, artifact.library, artifact.manifest, inputs, outputs)


def test_write_replaces_an_artifact(linear: Path, tmp_path: Path) -> None:
    path = tmp_path / "made" / "model"
    write_again(linear, path)
    (path / "model.so").write_bytes(b"damaged")
    write_again(linear, path).check()
    assert [entry.name for entry in path.parent.iterdir()] == ["model"]


def test_writing_twice_gives_equal_files(linear: Path, tmp_path: Path) -> None:
    first, second = write_again(linear, tmp_path / "a").path, write_again(linear, tmp_path / "b").path
    for name in ("model.so", "golden.npz", "manifest.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_write_leaves_other_things_alone(linear: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "manifest.json").write_text('{"name": "a web page"}')
    mixed = Path(shutil.copytree(linear, tmp_path / "mixed"))
    (mixed / "notes.txt").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(linear)
    for path in (file, folder, foreign, mixed, link):
        with pytest.raises(ArtifactError, match="not an EdgeIR artifact"):
            write_again(linear, path)
    assert file.read_text() == (folder / "notes.txt").read_text() == (mixed / "notes.txt").read_text() == "mine"
    assert link.is_symlink()


def test_failed_write_leaves_nothing(linear: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(linear)
    inputs, outputs = artifact.load_golden()
    workplace = tmp_path / "empty"
    workplace.mkdir()
    with pytest.raises(ArtifactError, match="golden output does not match"):
        wrong = {**outputs, "y": outputs["y"].astype(np.float64)}
        Artifact.write(workplace / "model", artifact.library, artifact.manifest, inputs, wrong)
    with pytest.raises(ArtifactError, match="golden inputs do not match"):
        Artifact.write(workplace / "model", artifact.library, artifact.manifest, {}, outputs)
    with pytest.raises(EdgeIRError, match="threads"):
        bad = dataclasses.replace(artifact.manifest, threads=0)
        Artifact.write(workplace / "model", artifact.library, bad, inputs, outputs)
    assert list(workplace.iterdir()) == []


def test_golden_file_with_other_arrays(linear: Path) -> None:
    with (linear / "golden.npz").open("wb") as file:
        np.savez(file, input_0=np.zeros(3))
    with pytest.raises(ArtifactError, match="input_0: float64 of shape"):
        Artifact.load(linear).load_golden()


def test_golden_file_with_objects_is_refused(linear: Path) -> None:
    with (linear / "golden.npz").open("wb") as file:
        np.savez(file, input_0=np.array([{}], dtype=object))
    with pytest.raises(ArtifactError, match="does not hold"):
        Artifact.load(linear).load_golden()
