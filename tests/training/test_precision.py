"""Training in bfloat16: weights stay float32, and the network learns what it learns in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeir.errors import EdgeIRError
from edgeir.training import GraphModule
from edgeir.training.distillation import Distillation
from edgeir.training.fit import fit
from examples.fashion_mnist.networks import mobile_network

SMALL = {"size": 8, "classes": 3, "stem": 8, "stages": ((8, 2, 2, 2), (16, 2, 2, 1)), "head": 24}
"""With strided depthwise convolutions and residual additions."""

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 192)
IMAGES = (RNG.normal(size=(192, 1, 8, 8)) + 2 * RNG.normal(size=(3, 1, 8, 8))[LABELS]).astype(np.float32)


def _trained(precision: str, teacher: GraphModule | None = None) -> tuple[GraphModule, float, float]:
    module = GraphModule(mobile_network(**SMALL, seed=1), batch_statistics=True)
    losses: list[float] = []
    result = fit(
        *(module, (IMAGES, LABELS)),
        objective=None if teacher is None else Distillation(module, teacher, feature=1.0, attention=1.0),
        epochs=8,
        batch_size=32,
        learning_rate=4e-3,
        validation=(IMAGES, LABELS),
        channels_last=True,
        precision=precision,
        on_step=lambda step, loss: losses.append(loss),
    )
    return module, losses[0], result.history[-1]["validation/accuracy"]


def test_it_learns_with_float32_weights() -> None:
    module, first, accuracy = _trained("bfloat16")
    _, exact, expected = _trained("float32")
    assert first == pytest.approx(exact, rel=0.02) and first != exact
    assert expected > 0.9 and accuracy > 0.9
    assert {tensor.dtype for tensor in module.state_dict().values()} <= {torch.float32, torch.int64}
    assert not torch.is_autocast_enabled("cpu")


def test_a_student_learns_from_features() -> None:
    teacher, _, _ = _trained("float32")
    assert _trained("bfloat16", teacher)[2] > 0.9


def test_results_are_floats_of_the_graph_and_gradients_are_near() -> None:
    module = GraphModule(mobile_network(**SMALL, seed=2), batch_statistics=True).train()
    images = torch.from_numpy(IMAGES[:64])
    gradients = []
    for enabled in (False, True):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = module(images, capture=["stage0.0.expand.act"])
        assert {tensor.dtype for tensor in outputs.values()} == {torch.float32}
        torch.nn.functional.cross_entropy(outputs["logits"], torch.from_numpy(LABELS[:64])).backward()
        gradients.append({name: parameter.grad for name, parameter in module.named_parameters()})
    exact, rounded = gradients
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in rounded.values())
    for name in (name for name in exact if name.endswith("weight")):
        a, b = exact[name].flatten(), rounded[name].flatten()
        assert float(a @ b / (a.norm() * b.norm())) > 0.95, name
        assert not torch.equal(a, b)


def test_the_precision_is_part_of_the_run(tmp_path: Path) -> None:
    data = (IMAGES[:32], LABELS[:32])
    for precision in ("float32", "bfloat16"):
        module = GraphModule(mobile_network(**SMALL))
        if precision == "float32":
            fit(module, data, steps=1, folder=tmp_path, precision=precision)
            continue
        with pytest.raises(EdgeIRError, match="belongs to another run"):
            fit(module, data, steps=1, folder=tmp_path, precision=precision)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(EdgeIRError, match="unknown precision"):
        fit(GraphModule(mobile_network(**SMALL)), (IMAGES, LABELS), epochs=1, precision="float16")
