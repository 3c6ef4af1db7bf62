"""Real models, compiled, against onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw

import edgeir
from edgeir.ir import Graph, parse_graph
from edgeir.ir.storage import large_constants

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    """A model and the shapes to try it at; errors are relative to an output's range."""

    name: str
    shapes: tuple[Shapes, ...]
    tolerance: float = 1e-4


def _tokens(batch: int, length: int) -> Shapes:
    return dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (batch, length))


CASES = (
    Case("mnist_cnn", ({"input": (1, 1, 28, 28)}, {"input": (3, 1, 28, 28)})),
    Case("fmnist_cnn", ({"input": (1, 1, 28, 28)}, {"input": (5, 1, 28, 28)})),
    Case("ppocr_cls", ({"x": (1, 3, 48, 192)}, {"x": (2, 3, 48, 96)})),
    Case("ppocrv4_det", ({"x": (1, 3, 320, 320)}, {"x": (1, 3, 192, 96)})),
    Case("efficientnet_lite0", ({"input": (1, 3, 224, 224)}, {"input": (2, 3, 224, 224)})),
    Case("open_nsfw_resnet50thin", ({"input:0": (1, 224, 224, 3)}, {"input:0": (2, 224, 224, 3)})),
    Case("silero_vad_16k_static", ({},)),
    Case("minilm_l6_int8", (_tokens(1, 16), _tokens(2, 24))),
)


def photograph(path: Path, width: int, height: int) -> np.ndarray:
    """Pixels (height, width, 3) with a word on them, for the models that look for text."""
    image = Image.open(path).resize((width, height))
    box = (width // 8, height // 3, width - width // 8, height - height // 3)
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, fill="white")
    draw.text((box[0] + 4, box[1]), "EdgeIR", fill="black", font_size=max(10, (box[3] - box[1]) // 2))
    return np.asarray(image, np.float32)


def sample(graph: Graph, folder: Path) -> dict[str, np.ndarray]:
    """Photographs for image inputs, since noise leaves detectors at zero; random data for the others."""
    random = np.random.default_rng(0)
    inputs = {}
    for value in graph.inputs:
        shape = value.type.static_shape
        if value.type.dtype != "float32":
            high = 1000 if value.name == "input_ids" else 2
            inputs[value.name] = random.integers(0, high, shape).astype(value.type.dtype)
            if value.name == "attention_mask":
                inputs[value.name][:, 0] = 1
        elif len(shape) == 4 and 3 in (shape[1], shape[3]):
            height, width = (shape[2], shape[3]) if shape[1] == 3 else (shape[1], shape[2])
            photos = sorted((folder / "imagenet20").glob("*.jpg"))[5 : 5 + shape[0]]
            pixels = np.stack([photograph(p, width, height) for p in photos])
            scaled = (pixels - 127) / 128
            inputs[value.name] = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if shape[1] == 3 else scaled)
        else:
            inputs[value.name] = random.standard_normal(shape).astype(np.float32)
    return inputs


def reference(path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {name: np.asarray(array) for name, array in zip(names, session.run(names, dict(inputs)), strict=True)}


@pytest.mark.parametrize(
    ("case", "shapes"),
    [pytest.param(case, shapes, id=f"{case.name}-{i}") for case in CASES for i, shapes in enumerate(case.shapes)],
)
def test_model(case: Case, shapes: Shapes, shared_models: Path, tmp_path: Path) -> None:
    path = shared_models / f"{case.name}.onnx"
    graph = edgeir.load(str(path), shapes=dict(shapes) or None)
    graph.verify()
    assert str(parse_graph(str(graph), large_constants(graph))) == str(graph)
    inputs = sample(graph, shared_models)
    edgeir.compile(graph, output=tmp_path / "model", golden_inputs=inputs)
    assert edgeir.verify(tmp_path / "model").passed
    outputs = edgeir.Session(tmp_path / "model").run(inputs)
    for name, expected in reference(path, inputs).items():
        got = outputs[name]
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        if case.name.startswith("minilm"):
            cosine = np.vdot(got, expected) / (np.linalg.norm(got) * np.linalg.norm(expected))
            assert cosine >= 0.9999
        span = np.ptp(expected) or np.abs(expected).max()
        assert np.abs(got - expected).max() <= case.tolerance * span, name


def test_efficientnet_classifies_photographs_as_onnxruntime_does(shared_models: Path, tmp_path: Path) -> None:
    path = shared_models / "efficientnet_lite0.onnx"
    photos = sorted((shared_models / "imagenet20").glob("*.jpg"))
    edgeir.compile(str(path), shapes={"input": (1, 3, 224, 224)}, output=tmp_path / "model")
    session = edgeir.Session(tmp_path / "model")
    theirs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers, expected, right = [], [], 0
    for photo in photos:
        pixels = (np.asarray(Image.open(photo).resize((224, 224)), np.float32) - 127) / 128
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        answers.append(int(session.run({"input": batch})["logits"].argmax()))
        expected.append(int(np.asarray(theirs.run(None, {"input": batch})[0]).argmax()))
        right += answers[-1] == int(photo.stem.rpartition("_")[2])
    assert answers == expected
    assert right == 17
