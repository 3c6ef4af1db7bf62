"""Real models on a real GPU, beside onnxruntime; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import edgeir
from edgeir.errors import EdgeIRError
from edgeir.ir.dtype import numpy_dtype
from edgeir.runtime import Session
from edgeir.runtime.gpu import cuda_architecture
from edgeir.targets import lookup

pytestmark = pytest.mark.gpu
MODELS = (
    ("mnist_cnn", {"input": (4, 1, 28, 28)}),
    ("fmnist_cnn", {"input": (1, 1, 28, 28)}),
    ("silero_vad_16k_static", {}),
    ("ppocr_cls", {"x": (1, 3, 48, 192)}),
    ("ppocrv4_det", {"x": (1, 3, 320, 320)}),
    ("efficientnet_lite0", {"input": (1, 3, 224, 224)}),
    ("open_nsfw_resnet50thin", {"input_1": (1, 224, 224, 3)}),
    ("minilm_l6_int8", {n: (2, 24) for n in ("input_ids", "attention_mask", "token_type_ids")}),
)


def device_target() -> str:
    architecture = cuda_architecture()
    if not architecture:
        pytest.skip("needs a CUDA device that can be used")
    try:
        lookup(f"cuda-{architecture}")
    except EdgeIRError:
        pytest.skip(f"there is no preset for {architecture}")
    return f"cuda-{architecture}"


@pytest.mark.parametrize(("name", "shapes"), MODELS)
def test_model_on_the_gpu_agrees_with_onnxruntime(shared_models: Path, tmp_path: Path, name: str, shapes: dict) -> None:
    target, path = device_target(), shared_models / f"{name}.onnx"
    edgeir.compile(path, target, shapes, output=tmp_path / "m")
    session = Session(tmp_path / "m")
    rng = np.random.default_rng(0)
    inputs = {
        spec.name: rng.standard_normal(spec.shape).astype(numpy_dtype(spec.dtype))
        if "float" in spec.dtype
        else rng.integers(0, 2, spec.shape).astype(numpy_dtype(spec.dtype))
        for spec in session.inputs
    }
    reference = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in reference.get_outputs()]
    got = session.run(inputs)
    for key, expected in zip(names, reference.run(None, inputs), strict=True):
        wanted = np.asarray(expected)
        spread = max(float(wanted.max() - wanted.min()), float(np.abs(wanted).max()))
        assert float(np.abs(got[key] - wanted).max()) <= 1e-3 * spread
