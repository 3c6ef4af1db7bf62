"""Real models, imported, optimized, compiled and run beside onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeir.frontend.onnx import load
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext, example_inputs
from edgeir.targets import host

MODELS = (
    ("mnist_cnn", {"N": 2}),
    ("fmnist_cnn", {"N": 1}),
    ("silero_vad_16k_static", {}),
    ("open_nsfw_resnet50thin", {"unk__653": 1}),
    ("efficientnet_lite0", {"N": 1}),
    ("minilm_l6_int8", {"batch": 2, "sequence": 24}),
)
LARGE = ("open_nsfw_resnet50thin", "efficientnet_lite0", "minilm_l6_int8")
CASES = [
    pytest.param(name, sizes, blocked, marks=[pytest.mark.slow] if name in LARGE and not blocked else [])
    for name, sizes in MODELS
    for blocked in (False, True)
]


@pytest.mark.parametrize(("name", "sizes", "blocked"), CASES)
def test_compiled_model_agrees_with_onnxruntime(
    shared_models: Path, name: str, sizes: dict[str, int], blocked: bool
) -> None:
    path = shared_models / f"{name}.onnx"
    target = host().with_cores(1)
    graph = load(path)
    if sizes:
        graph = graph.bind(sizes)
    default_pipeline(target if blocked else None).run(graph, PassContext(target=target))
    inputs = example_inputs(graph)
    got = Runner(graph, build(graph, target, 1))(inputs)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {item.name: inputs[item.name] for item in session.get_inputs()}
    for item, expected in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        expected = np.asarray(expected)
        spread = max(float(expected.max() - expected.min()), float(np.abs(expected).max()))
        assert float(np.abs(got[item.name] - expected).max()) <= 1e-4 * spread
