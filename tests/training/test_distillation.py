"""Distillation between modules of graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgeir.ops  # noqa: F401
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.training import GraphModule
from edgeir.training.checkpoints import Checkpoint
from edgeir.training.distillation import Cohort, Distillation, FeatureAdapter, MutualLearning
from edgeir.training.distillation_losses import attention_loss, response_loss
from edgeir.training.fit import fit
from edgeir.training.layer_pairs import choose_pairs

RNG = np.random.default_rng(0)


def network(widths: tuple[int, ...], seed: int, softmax: bool = False) -> Graph:
    """Convolutions of 3×3, each but the first of stride 2, and a linear layer to three classes."""
    rng = np.random.default_rng(seed)
    b = Builder(f"net{len(widths)}")
    x, channels = b.input("x", "float32[N, 1, 8, 8]"), 1
    for index, width in enumerate(widths):
        weight = rng.normal(0, np.sqrt(2 / (9 * channels)), (width, channels, 3, 3)).astype(np.float32)
        stride = (1, 1) if index == 0 else (2, 2)
        y = b.conv(x, weight, strides=stride, padding=(1, 1, 1, 1), dilations=(1, 1), name=f"conv{index}")
        x, channels = b.relu(y, name=f"act{index}"), width
    pooled = b.reduce_mean(x, axes=(2, 3), keepdims=False)
    logits = b.matmul(pooled, rng.normal(0, 0.5, (channels, 3)).astype(np.float32), name="logits")
    return b.outputs(y=b.softmax(logits, axis=1)) if softmax else b.outputs(y=logits)


X = RNG.normal(size=(96, 1, 8, 8)).astype(np.float32)
TEACHER = network((8, 16, 16), 1)
with torch.no_grad():
    Y = GraphModule(TEACHER)(torch.from_numpy(X))["y"].argmax(1).numpy()


def test_pairs_are_chosen_by_resolution() -> None:
    assert choose_pairs(network((4, 4, 4), 0), TEACHER) == [("act0", "act0"), ("act1", "act1"), ("act2", "act2")]
    assert choose_pairs(network((4, 4, 4), 0), TEACHER, count=1) == [("act2", "act2")]


def test_pairs_are_chosen_by_depth_where_resolutions_differ() -> None:
    b = Builder("other strides")
    x = b.input("x", "float32[N, 1, 9, 9]")
    weight = np.ones((2, 1, 3, 3), np.float32)
    y = b.conv(x, weight, strides=(3, 3), padding=(0,) * 4, dilations=(1, 1), name="only")
    graph = b.outputs(y=b.reduce_mean(y, axes=(1, 2, 3), keepdims=False))
    # The student's map stands after half of its nodes, and so does the teacher's second one.
    assert choose_pairs(graph, TEACHER) == [("only", "act1")]
    vector = Builder("vector")
    v = vector.input("x", "float32[N, 4]")
    with pytest.raises(EdgeIRError, match="no feature maps"):
        choose_pairs(vector.outputs(y=vector.relu(v)), TEACHER)


def test_the_objective_is_the_weighted_sum_of_its_parts() -> None:
    student, teacher = GraphModule(network((4, 4, 4), 2)), GraphModule(TEACHER)
    inputs, labels = torch.from_numpy(X[:8]), torch.from_numpy(Y[:8])
    objective = Distillation(
        *(student, teacher),
        hard=0.3,
        response=0.7,
        temperature=2.0,
        feature=0.5,
        attention=5.0,
        pairs=[("act2", "act2")],
    )
    total, parts = objective(student, inputs, labels)
    own, other = student(inputs, capture=("act2",)), teacher(inputs, capture=("act2",))
    (adapter,) = objective.adapters.values()
    assert isinstance(adapter, FeatureAdapter)
    weight = adapter.weight
    adapted = np.einsum("oc,nchw->nohw", weight.detach().numpy(), own["act2"].detach().numpy())
    expected = {
        "hard": torch.nn.functional.cross_entropy(own["y"], labels).item(),
        "response": response_loss(own["y"], other["y"], 2.0).item(),
        "feature": ((adapted - other["act2"].detach().numpy()) ** 2).mean(),
        "attention": attention_loss(own["act2"], other["act2"]).item(),
    }
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-5)
    weights = {"hard": 0.3, "response": 0.7, "feature": 0.5, "attention": 5.0}
    assert total.item() == pytest.approx(sum(weights[name] * expected[name] for name in weights), rel=1e-5)
    total.backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_final_softmax_is_looked_through() -> None:
    plain, ending = GraphModule(network((4, 4), 3)), GraphModule(network((4, 4), 3, softmax=True))
    teacher = GraphModule(network((8, 16, 16), 1, softmax=True))
    inputs, labels = torch.from_numpy(X[:8]), torch.from_numpy(Y[:8])
    first = Distillation(plain, GraphModule(TEACHER))(plain, inputs, labels)[0]
    second = Distillation(ending, teacher)(ending, inputs, labels)[0]
    assert second.item() == pytest.approx(first.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["response", "feature", "attention"])
def test_a_student_comes_nearer_to_its_teacher(kind: str) -> None:
    student, teacher = GraphModule(network((4, 4, 4), 2)), GraphModule(TEACHER)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    weights = {"response": 0.0, "feature": 0.0, "attention": 0.0} | {kind: 1.0}
    response, feature, attention = (weights[name] for name in ("response", "feature", "attention"))
    objective = Distillation(student, teacher, hard=0.0, response=response, feature=feature, attention=attention)
    first, _ = objective(student, torch.from_numpy(X), torch.from_numpy(Y))
    fit(student, (X, Y), objective=objective, epochs=15, batch_size=32, learning_rate=0.02)
    last, _ = objective(student, torch.from_numpy(X), torch.from_numpy(Y))
    # Of the cross-entropy of the response a part cannot be learned away: the teacher's own entropy.
    floor = 0.0
    if kind == "response":
        logits = teacher(torch.from_numpy(X))["y"]
        floor = response_loss(logits, logits).item()
    assert last.item() - floor < 0.6 * (first.item() - floor)
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_adapters_are_in_checkpoints_and_teachers_are_not(tmp_path) -> None:
    student = GraphModule(network((4, 4, 4), 2))
    objective = Distillation(student, GraphModule(TEACHER), feature=1.0)
    fit(student, (X, Y), objective=objective, epochs=1, batch_size=32, folder=tmp_path)
    stored = Checkpoint.load(tmp_path / "checkpoint.npz")
    assert set(stored.part("objective")) == {f"adapters.{index}.weight" for index in range(3)}
    for name, tensor in stored.part("objective").items():
        assert torch.equal(tensor, objective.state_dict()[name])


def test_mutual_learning_trains_all_members() -> None:
    members = [GraphModule(network((4, 4), 5)), GraphModule(network((8, 8, 8), 6))]
    cohort = Cohort(members)
    objective = MutualLearning(cohort)
    inputs, labels = torch.from_numpy(X), torch.from_numpy(Y)
    total, parts = objective(cohort, inputs, labels)
    a, b = (member(inputs)["y"] for member in members)

    def log_softmax(z: torch.Tensor) -> np.ndarray:
        array = z.detach().numpy().astype(np.float64)
        return array - np.log(np.exp(array).sum(1, keepdims=True))

    p, q = log_softmax(a), log_softmax(b)
    divergence = (np.exp(q) * (q - p)).sum(1).mean() + (np.exp(p) * (p - q)).sum(1).mean()
    hard = -p[np.arange(96), Y].mean() - q[np.arange(96), Y].mean()
    assert total.item() == pytest.approx(hard + divergence, rel=1e-4)
    assert set(parts) == {"hard/0", "hard/1"}
    result = fit(cohort, (X, Y), objective=objective, epochs=15, batch_size=32, learning_rate=0.02, validation=(X, Y))
    for index in range(2):
        first, last = (result.history[n][f"validation/loss/{index}"] for n in (0, -1))
        assert last < first
    last = result.history[-1]
    mean = (last["validation/accuracy/0"] + last["validation/accuracy/1"]) / 2
    assert last["validation/accuracy"] == pytest.approx(mean)


def test_what_cannot_be_distilled() -> None:
    student, teacher = GraphModule(network((4, 4), 5)), GraphModule(TEACHER)
    with pytest.raises(EdgeIRError, match="nothing is learned"):
        Distillation(student, teacher, response=0.0)
    with pytest.raises(EdgeIRError, match="negative weight"):
        Distillation(student, teacher, feature=-1.0)
    with pytest.raises(EdgeIRError, match="no value of this name"):
        Distillation(student, teacher, feature=1.0, pairs=[("act0", "missing")])
    with pytest.raises(EdgeIRError, match="modules of graphs only"):
        Distillation(torch.nn.Linear(2, 2), teacher, feature=1.0)
    with pytest.raises(EdgeIRError, match="trains a cohort"):
        fit(student, (X, Y), objective=MutualLearning(Cohort([student, teacher])), epochs=1)
    with pytest.raises(EdgeIRError, match="at least two"):
        Cohort([student])
