"""Real models, symbolic and with fixed shapes, against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeir.frontend import load
from edgeir.ir.evaluate import evaluate

# file: (input shapes to run with, shapes for the symbolic import)
MODELS: dict[str, tuple[dict[str, Sequence[int]], dict[str, Sequence[int | str | None]]]] = {
    "mnist_cnn": ({"input": (3, 1, 28, 28)}, {}),
    "ppocr_cls": ({"x": (1, 3, 48, 96)}, {}),
    "ppocrv4_det": ({"x": (1, 3, 32, 64)}, {"x": (None, 3, "32*h", "32*w")}),
    "efficientnet_lite0": ({"input": (1, 3, 224, 224)}, {}),
    "open_nsfw_resnet50thin": ({"input:0": (1, 224, 224, 3)}, {}),
    "silero_vad_16k_static": ({"input": (1, 576), "state": (2, 1, 128)}, {}),
    "minilm_l6_int8": ({"input_ids": (2, 7), "attention_mask": (2, 7), "token_type_ids": (2, 7)}, {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, shared_models: Path) -> None:
    path = shared_models / f"{name}.onnx"
    shapes, symbolic = MODELS[name]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {}
    for value in session.get_inputs():
        shape = shapes[value.name]
        if "int64" in value.type:
            high = 1000 if value.name == "input_ids" else 2
            inputs[value.name] = rng.integers(0, high, shape) if "mask" not in value.name else np.ones(shape, np.int64)
        else:
            inputs[value.name] = rng.random(shape).astype(np.float32)
    names = [value.name for value in session.get_outputs()]
    expected = [np.asarray(array) for array in session.run(names, inputs)]
    fixed = load(path, shapes)
    assert all(value.type.is_static for value in fixed.inputs)
    results = evaluate(fixed, inputs)
    for output, array in zip(names, expected, strict=True):
        np.testing.assert_allclose(results[output], array, rtol=1e-3, atol=1e-4)
    open_graph = load(path, symbolic)
    sizes = {"h": 1, "w": 2} if name == "ppocrv4_det" else {}
    if sizes:
        first = open_graph.inputs[0].type.shape[0]
        open_graph = open_graph.bind({**sizes, str(first): 1})
    again = evaluate(open_graph, inputs)
    for output in names:
        np.testing.assert_allclose(again[output], results[output], rtol=1e-3, atol=1e-5)
