"""Artifacts for a GPU: what is in them, and what a machine without one says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edgeir
from edgeir.errors import ArtifactError, EdgeIRError
from edgeir.lowering import cuda_binary, gpu
from edgeir.runtime import Session
from edgeir.runtime.gpu import cuda_architecture
from edgeir.targets import host_architecture, lookup

MODEL = Path(__file__).parents[2] / "edgeir" / "models" / "mnist_cnn.onnx"
SHAPES = {"input": (1, 1, 28, 28)}
needs_nvrtc = pytest.mark.skipif(
    bool(cuda_binary.nvrtc_missing("sm_87")), reason="needs NVRTC (pip install edgeir[cuda])"
)
x86_only = pytest.mark.skipif(host_architecture() != "x86_64", reason="links for x86-64")


@needs_nvrtc
@x86_only
def test_an_artifact_holds_machine_code_and_refuses_to_run_without_a_gpu(tmp_path: Path) -> None:
    edgeir.compile(MODEL, "cuda-sm_90", SHAPES, output=tmp_path / "m")
    library = (tmp_path / "m" / "model.so").read_bytes()
    assert b"\x05\0\0\0\0\0\0\0cubin" in library
    assert b"__global__" not in library
    if cuda_architecture():
        pytest.skip("there is a GPU here")
    with pytest.raises(ArtifactError, match=r"needs a GPU of CUDA architecture sm_90, and this machine has no"):
        Session(tmp_path / "m")


@x86_only
def test_without_nvrtc_the_source_is_embedded_and_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "nvrtc_missing", lambda arch: "NVRTC is not installed, so ….")
    with pytest.warns(RuntimeWarning, match="NVRTC is not installed"):
        edgeir.compile(MODEL, "cuda-sm_90", SHAPES, output=tmp_path / "m")
    assert b"__global__" in (tmp_path / "m" / "model.so").read_bytes()


def test_languages_without_machine_code_have_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(EdgeIRError, match="offered as source only"):
        edgeir.compile(MODEL, "opencl", SHAPES, output=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_vulkan_is_refused_with_the_reason() -> None:
    with pytest.raises(EdgeIRError, match="without its Vulkan code generator"):
        lookup("vulkan")


def test_emit_source(tmp_path: Path) -> None:
    from edgeir.compiler import prepare
    from edgeir.emit import write_source

    folder = write_source(prepare(MODEL, "cuda-sm_87", SHAPES), tmp_path / "source")
    text = (folder / "kernels.cu").read_text(encoding="utf-8")
    kernels = set(re.findall(r"__global__ .* (\w+)\(", text))
    for name in (folder / "kernels.txt").read_text(encoding="utf-8").split():
        assert any(kernel.startswith(name) for kernel in kernels)
    with pytest.raises(EdgeIRError, match="have no source"):
        write_source(prepare(MODEL, "x86-64-v3", SHAPES), tmp_path / "other")
