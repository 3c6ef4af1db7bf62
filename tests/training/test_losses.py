"""Losses against formulas written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeir.errors import EdgeIRError
from edgeir.training.distillation_losses import (
    attention_loss,
    attention_map,
    feature_loss,
    mutual_loss,
    response_loss,
    same_size,
)
from edgeir.training.losses import find_loss
from edgeir.training.optimization import make_optimizer, schedule_factor


def _logits(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (5, 7))).requires_grad_()


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_cross_entropy_is_the_mean_negative_log_probability() -> None:
    logits, labels = _logits(0), torch.tensor([0, 6, 3, 3, 1])
    p = _softmax(logits.detach().numpy())[np.arange(5), labels.numpy()]
    assert find_loss("cross-entropy")(logits, labels).item() == pytest.approx(-np.log(p).mean())


@pytest.mark.parametrize("label", [-1, 7])
def test_labels_out_of_range_are_refused(label: int) -> None:
    with pytest.raises(EdgeIRError, match=rf"label is out of range\n.*sample 2 (.|\n)*expected: 0 … 6\n.*got: {label}"):
        find_loss("cross-entropy")(_logits(0), torch.tensor([0, 1, label, 3, 4]))


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "binary-cross-entropy"])
def test_targets_are_not_broadcast(name: str) -> None:
    with pytest.raises(EdgeIRError, match="do not fit"):
        find_loss(name)(torch.zeros(4, 1), torch.zeros(4))


def test_unknown_loss() -> None:
    with pytest.raises(EdgeIRError, match="unknown loss"):
        find_loss("crossentropy")


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_response_loss(temperature: float) -> None:
    student, teacher = _logits(1), _logits(2)
    target = _softmax(teacher.detach().numpy() / temperature)
    answer = _softmax(student.detach().numpy() / temperature)
    loss = response_loss(student, teacher, temperature)
    assert loss.item() == pytest.approx(-(temperature**2) * (target * np.log(answer)).sum(1).mean())
    loss.backward()
    # d/dz of the cross-entropy of tempered softmaxes is τ·(p_S − p_T), averaged over samples.
    assert student.grad is not None and teacher.grad is None
    np.testing.assert_allclose(student.grad.numpy(), temperature * (answer - target) / 5, atol=1e-12)


def test_mutual_loss_is_the_divergence_from_the_peer() -> None:
    own, peer = _logits(1), _logits(2)
    p, q = _softmax(peer.detach().numpy()), _softmax(own.detach().numpy())
    assert mutual_loss(own, peer).item() == pytest.approx((p * np.log(p / q)).sum(1).mean())
    assert mutual_loss(own, own).item() == pytest.approx(0, abs=1e-12)


def test_attention_map_and_loss() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 3, 4, 4)), rng.normal(size=(2, 6, 4, 4))

    def normalized(features: np.ndarray) -> np.ndarray:
        q = (features**2).sum(1).reshape(len(features), -1)
        return q / np.sqrt((q**2).sum(1, keepdims=True))

    a, b = torch.from_numpy(student), torch.from_numpy(teacher)
    np.testing.assert_allclose(attention_map(a).numpy(), normalized(student))
    expected = ((normalized(student) - normalized(teacher)) ** 2).sum(1).mean()
    assert attention_loss(a, b).item() == pytest.approx(expected)
    # Only where the features are strong matters, not how strong they are.
    assert attention_loss(a, 5 * a).item() == pytest.approx(0, abs=1e-12)


def test_features_of_other_sizes_are_averaged_down() -> None:
    small, large = torch.zeros(1, 2, 2, 4), torch.arange(32.0).reshape(1, 2, 4, 4)
    first, second = same_size(small, large)
    assert first is small
    np.testing.assert_allclose(second.numpy(), large.numpy().reshape(1, 2, 2, 2, 4).mean(3))
    with pytest.raises(EdgeIRError, match="differ in shape"):
        feature_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3))


def test_schedules() -> None:
    assert [schedule_factor("constant", step, 10, warmup=2) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    cosine = [schedule_factor("cosine", step, 8) for step in (0, 4, 8)]
    np.testing.assert_allclose(cosine, [1, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(
        [schedule_factor("step", s, 9) for s in (0, 2, 3, 5, 6, 8)], [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    with pytest.raises(EdgeIRError, match="unknown schedule"):
        schedule_factor("linear", 0, 1)


def test_only_matrices_decay() -> None:
    shapes = {"kernel": (4, 3, 3, 3), "scales": (4, 1, 1, 1), "bias": (4,), "matrix": (2, 5)}
    named = [(name, torch.nn.Parameter(torch.ones(shape))) for name, shape in shapes.items()]
    optimizer = make_optimizer("sgd", named, 0.1, weight_decay=0.5)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in named} == {"kernel": 0.5, "scales": 0.0, "bias": 0.0, "matrix": 0.5}
    with pytest.raises(EdgeIRError, match="nothing to train"):
        make_optimizer("sgd", [], 0.1)
