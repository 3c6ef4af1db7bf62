"""Real models in torch against the reference evaluator and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

import edgeir  # noqa: E402
from edgeir.ir.evaluate import evaluate  # noqa: E402
from edgeir.training import GraphModule  # noqa: E402
from tests.differential.test_models import sample  # noqa: E402
from tests.training.op_graphs import tensors  # noqa: E402

Shapes = dict[str, tuple[int, ...]]
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
MODELS: dict[str, Shapes] = {
    "mnist_cnn": {"input": (3, 1, 28, 28)},
    "fmnist_cnn": {"input": (3, 1, 28, 28)},
    "ppocr_cls": {"x": (2, 3, 48, 96)},
    "ppocrv4_det": {"x": (1, 3, 192, 96)},
    "efficientnet_lite0": {"input": (1, 3, 224, 224)},
    "open_nsfw_resnet50thin": {"input:0": (1, 224, 224, 3)},
    "silero_vad_16k_static": {},
    "minilm_l6_int8": dict.fromkeys(TOKENS, (1, 10)),
}
TOLERANCE = 2e-5
"""Relative to an output's range: float32 sums in another order. onnxruntime's own are 1e-4 (tests/differential)."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_in_torch_and_gets_gradients(name: str, shared_models: Path) -> None:
    path, shapes = shared_models / f"{name}.onnx", MODELS[name]
    graph = edgeir.load(str(path), shapes=shapes or None)
    inputs = sample(graph, shared_models)
    module = GraphModule(graph)
    got = module(tensors(inputs))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    theirs = dict(zip(names, session.run(names, inputs), strict=True))
    ours = evaluate(graph, inputs)
    for output, expected in ours.items():
        found, span = got[output].detach().numpy(), float(np.ptp(expected)) or 1.0
        assert np.abs(found - expected).max() <= TOLERANCE * span, output
        assert np.abs(found - np.asarray(theirs[output])).max() <= 1e-4 * span, output
    torch.stack([output.square().sum() for output in got.values()]).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert str(module.to_graph()) == str(graph)


def test_a_model_with_a_symbolic_batch_takes_any(shared_models: Path) -> None:
    graph = edgeir.load(str(shared_models / "efficientnet_lite0.onnx"))
    module = GraphModule(graph).eval()
    images = torch.from_numpy(np.random.default_rng(0).random((3, 3, 224, 224), np.float32))
    with torch.no_grad():
        together = module(images)["logits"]
        alone = torch.cat([module(images[i : i + 1])["logits"] for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
