"""Linkers for foreign targets, and object files without one."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import edgeir
from edgeir.compiler import prepare
from edgeir.emit import EMITTERS
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.lowering.linking import cross_compiler, is_foreign, linker_for
from edgeir.runtime.manifest import Manifest
from edgeir.targets import host, lookup

# e_machine of the ELF header: the System V ABI's numbers of the architectures.
MACHINES = {"x86-64-v2": 62, "cortex-a72": 183, "armv7-neon": 40, "riscv64-v": 243}
PACKAGES = {
    "cortex-a72": "g++-aarch64-linux-gnu",
    "armv7-neon": "g++-arm-linux-gnueabihf",
    "riscv64-v": "g++-riscv64-linux-gnu",
}


def _small() -> Graph:
    builder = Builder("small")
    w = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    return builder.outputs(y=builder.relu(builder.matmul(builder.input("x", "float32[4, 8]"), w)))


def _elf_machine(path: Path) -> int:
    data = path.read_bytes()[:20]
    assert data[:4] == b"\x7fELF"
    return struct.unpack_from("<H", data, 18)[0]


def test_this_machine_needs_no_cross_compiler() -> None:
    assert not is_foreign(host())
    assert linker_for(host()) is None


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_cross_compiler_is_told_before_compiling(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not is_foreign(lookup(name)):
        pytest.skip("this machine's own architecture")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    stages: list[str] = []
    with pytest.raises(EdgeIRError, match="cross compiler") as caught:
        edgeir.compile(_small(), name, output=tmp_path / "out", on_stage=lambda stage, _: stages.append(stage))
    assert f"apt-get install {PACKAGES[name]}" in str(caught.value)
    assert stages == []
    assert list(tmp_path.iterdir()) == []


def test_no_linker_is_known_for_other_systems() -> None:
    with pytest.raises(EdgeIRError, match="knows no linker"):
        cross_compiler(lookup("wasm32"))
    with pytest.raises(EdgeIRError, match="knows no linker"):
        cross_compiler(lookup("aarch64-apple-darwin"))


@pytest.mark.parametrize("name", MACHINES)
def test_objects_are_of_the_targets_architecture(name: str, tmp_path: Path) -> None:
    folder = EMITTERS["object"](prepare(_small(), name), tmp_path / "objects")
    assert sorted(path.name for path in folder.iterdir()) == [
        "executable.o",
        "golden.npz",
        "kernels.o",
        "manifest.json",
    ]
    assert {_elf_machine(path) for path in folder.glob("*.o")} == {MACHINES[name]}
    assert Manifest.load(folder / "manifest.json").target.name == name
    # A second time they are replaced; anything else in the place is left alone.
    EMITTERS["object"](prepare(_small(), name), folder)
    (folder / "notes.txt").touch()
    with pytest.raises(EdgeIRError, match="taken"):
        EMITTERS["object"](prepare(_small(), name), folder)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_artifact_is_linked_for_the_target(name: str, tmp_path: Path) -> None:
    try:
        linker_for(lookup(name))
    except EdgeIRError as error:
        pytest.skip(str(error))
    artifact = edgeir.compile(_small(), name, output=tmp_path / "out")
    assert _elf_machine(artifact.library) == MACHINES[name]
    inputs, outputs = artifact.load_golden()
    assert set(inputs) == {"x"}
    assert set(outputs) == {"y"}
