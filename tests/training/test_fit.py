"""Training: it learns, and says what is wrong with its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from edgeir.errors import EdgeIRError
from edgeir.training.augmentation import augmentation
from edgeir.training.data import ArrayBatches
from edgeir.training.fit import fit
from edgeir.training.metrics_log import read_metrics

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
Y = (X @ RNG.normal(size=(6, 3))).argmax(1)


def linear(outputs: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(6, outputs)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.5), ("adam", 0.1), ("adamw", 0.1)])
@pytest.mark.parametrize("kind", ["arrays", "dataset", "loader"])
def test_it_learns(optimizer: str, rate: float, kind: str) -> None:
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    data = {"arrays": (X, Y), "dataset": dataset, "loader": DataLoader(dataset, batch_size=16, shuffle=True)}[kind]
    module = linear()
    result = fit(module, data, epochs=12, batch_size=16, optimizer=optimizer, learning_rate=rate, validation=(X, Y))
    assert result.steps == 72 and result.epochs == 12
    accuracy = (module(torch.from_numpy(X)).argmax(1).numpy() == Y).mean()
    assert result.history[-1]["validation/accuracy"] == pytest.approx(accuracy)
    assert accuracy > 0.9
    assert not module.training


def test_gradient_descent_takes_the_step_of_the_formula() -> None:
    module = linear()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    targets = RNG.normal(size=(96, 3)).astype(np.float32)
    settings = {"optimizer": "sgd", "learning_rate": 0.25, "momentum": 0.0, "weight_decay": 0.0}
    fit(module, (X, targets), loss="mse", metrics=(), steps=1, batch_size=96, schedule="constant", **settings)
    error = X @ before["weight"].numpy().T + before["bias"].numpy() - targets
    gradient = 2 * error.T @ X / error.size
    expected = before["weight"].numpy() - 0.25 * gradient
    np.testing.assert_allclose(module.state_dict()["weight"].numpy(), expected, atol=1e-6)


def _samples(source: ArrayBatches, epoch: int, skip: int = 0) -> list[int]:
    return [int(sample) for batch, _ in source.epoch(epoch, skip) for sample in torch.as_tensor(batch)]


def test_each_epoch_sees_every_sample_once_in_another_order() -> None:
    source = ArrayBatches(np.arange(10), np.arange(10), 4, seed=3)
    orders = [_samples(source, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    rest = _samples(source, 1, skip=1)
    assert rest == orders[1][4:]


def test_augmentation_moves_flips_and_erases() -> None:
    images = torch.from_numpy(RNG.normal(size=(64, 2, 6, 5)).astype(np.float32))
    flip = augmentation(["flip"])
    assert flip is not None
    flipped = flip(images, torch.Generator().manual_seed(0))
    same = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True)) and 10 < sum(same) < 54
    shift = augmentation(["shift=2"])
    assert shift is not None
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for moved, whole in zip(shift(images, torch.Generator().manual_seed(0)), padded, strict=True):
        places = [(r, c) for r in range(5) for c in range(5) if torch.equal(whole[:, r : r + 6, c : c + 5], moved)]
        assert places
    erase = augmentation(["erase=3"])
    assert erase is not None
    zeros = (erase(images, torch.Generator().manual_seed(0)) == 0).sum((1, 2, 3)).tolist()
    assert set(zeros) == {0, 18}
    with pytest.raises(EdgeIRError, match="unknown augmentation"):
        augmentation(["rotate=3"])


def test_early_stop_and_best_weights() -> None:
    module = linear()
    rng = np.random.default_rng(1)
    noise = (rng.normal(size=(16, 6)).astype(np.float32), rng.integers(0, 3, 16))
    result = fit(
        *(module, noise),
        epochs=200,
        batch_size=16,
        learning_rate=0.3,
        validation=(X, Y),
        patience=3,
        keep_best=True,
        schedule="constant",
    )
    assert result.stopped_early and result.epochs == result.best_epoch + 3 < 200  # pyright: ignore[reportOptionalOperand]
    losses = [row["validation/loss"] for row in result.history]
    assert result.best == min(losses)
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(Y))
    assert loss.item() == pytest.approx(result.best, rel=1e-5)


def test_metrics_log(tmp_path: Path) -> None:
    result = fit(linear(), (X, Y), epochs=2, batch_size=32, validation=(X, Y), folder=tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "learning_rate" in row] == [1, 2, 3, 4, 5, 6]
    assert [row for row in rows if "validation/loss" in row] == result.history
    mean = np.mean([row["loss"] for row in rows if "learning_rate" in row and row["epoch"] == 2])
    assert result.history[1]["loss"] == pytest.approx(mean)


def test_two_runs_with_one_seed_are_equal() -> None:
    modules = [linear(), linear(), linear()]
    for module, seed in zip(modules, (1, 1, 2), strict=True):
        fit(module, (X, Y), epochs=2, batch_size=10, seed=seed)
    weights = [module.state_dict()["weight"] for module in modules]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# What is wrong is said, and where


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    images = X.copy()
    images[80] = np.nan
    with pytest.raises(EdgeIRError, match=r"loss is not finite\n.*epoch 1, step 3"):
        fit(linear(), (images, Y), epochs=2, batch_size=32, shuffle=False)


def test_labels_out_of_range_name_their_step() -> None:
    with pytest.raises(EdgeIRError, match=r"label is out of range\n.*epoch 1, step 1, sample"):
        fit(linear(2), (X, Y), epochs=1)


def test_no_data() -> None:
    with pytest.raises(EdgeIRError, match="no training data"):
        fit(linear(), (X[:0], Y[:0]), epochs=1)
    with pytest.raises(EdgeIRError, match="no training data"):
        fit(linear(), TensorDataset(torch.zeros(0, 6), torch.zeros(0)), epochs=1)
    with pytest.raises(EdgeIRError, match="not training data"):
        fit(linear(), 3, epochs=1)
    with pytest.raises(EdgeIRError, match="differ in length"):
        fit(linear(), (X, Y[:5]), epochs=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give epochs or steps"),
        ({"epochs": 1, "steps": 1}, "give epochs or steps"),
        ({"epochs": 0}, "epochs is out of range"),
        ({"epochs": 1, "optimizer": "lion"}, "unknown optimizer"),
        ({"epochs": 1, "schedule": "poly"}, "unknown schedule"),
        ({"epochs": 1, "learning_rate": -1.0}, "learning rate must be positive"),
        ({"epochs": 1, "learning_ratio": 1.0}, "unknown training option"),
        ({"epochs": 1, "patience": 2}, "need validation data"),
        ({"epochs": 1, "monitor": "f1"}, "unknown metric"),
        ({"epochs": 1, "loss": "nll"}, "unknown loss"),
    ],
)
def test_options_that_do_not_fit(settings: dict, message: str) -> None:
    with pytest.raises(EdgeIRError, match=message):
        fit(linear(), (X, Y), **settings)
