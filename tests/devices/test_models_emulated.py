"""Real models, compiled for Cortex-A72 and run on an emulated one, against the reference evaluator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import edgeir
from edgeir.devices import EmulatedDevice, verify_on

MODELS = [
    ("mnist_cnn", {"input": (2, 1, 28, 28)}),
    ("fmnist_cnn", {"input": (1, 1, 28, 28)}),
    ("silero_vad_16k_static", {}),
    ("ppocr_cls", {"x": (1, 3, 48, 192)}),
    pytest.param("ppocrv4_det", {"x": (1, 3, 64, 64)}, marks=pytest.mark.slow),
    pytest.param("efficientnet_lite0", {"input": (1, 3, 224, 224)}, marks=pytest.mark.slow),
    pytest.param("open_nsfw_resnet50thin", {"input:0": (1, 224, 224, 3)}, marks=pytest.mark.slow),
    pytest.param(
        "minilm_l6_int8",
        dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 8)),
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.qemu
@pytest.mark.parametrize(("name", "shapes"), MODELS)
def test_model_on_the_emulated_device(
    shared_models: Path, emulated: EmulatedDevice, tmp_path: Path, name: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    artifact = edgeir.compile(
        shared_models / f"{name}.onnx", "cortex-a72", shapes or None, output=tmp_path / "artifact"
    )
    report = verify_on(emulated, artifact.path, threads=2, tolerance=1e-4)
    assert report.passed, str(report)


@pytest.mark.qemu
@pytest.mark.parametrize("bits", [128, 512])
def test_scalable_vectors_of_any_length(emulated: EmulatedDevice, tmp_path: Path, bits: int) -> None:
    """Code for Cortex-A510 has SVE2 instructions, which must not depend on the length of a register."""
    model = Path(edgeir.__file__).parent / "models" / "mnist_cnn.onnx"
    artifact = edgeir.compile(model, "cortex-a510", {"input": (2, 1, 28, 28)}, output=tmp_path / "artifact")
    device = replace(emulated, cpu=f"max,sve-default-vector-length={bits // 8}")
    assert verify_on(device, artifact.path, tolerance=1e-4).passed
