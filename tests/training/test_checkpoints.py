"""Checkpoints: what is saved comes back, damaged and foreign files are refused, nothing is pickled."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeir.errors import EdgeIRError
from edgeir.training.checkpoints import (
    Checkpoint,
    optimizer_state,
    random_state,
    restore_optimizer,
    restore_random_state,
)


def test_tensors_and_values_come_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(values={"loss": 0.1 + 0.2, "nested": {"list": [1, None, True, "a/b"]}})
    tensors = {
        "weird name/with.dots:0": torch.randn(3, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "file": torch.tensor([True, False]),
    }
    checkpoint.add("module", tensors)
    checkpoint.save(tmp_path / "checkpoint.npz")
    loaded = Checkpoint.load(tmp_path / "checkpoint.npz")
    assert loaded.values == checkpoint.values
    assert loaded.part("module").keys() == tensors.keys()
    for name, tensor in loaded.part("module").items():
        assert tensor.dtype == tensors[name].dtype and torch.equal(tensor, tensors[name])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[::-1]])
def test_damaged_files_are_refused(tmp_path: Path, damage) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint = Checkpoint()
    checkpoint.add("module", {"w": torch.randn(100)})
    checkpoint.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EdgeIRError, match="cannot read the checkpoint"):
        Checkpoint.load(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "checkpoint.npz"
    document = np.frombuffer(json.dumps({"format": 1, "tensors": {"w": ["t0", ""]}, "values": {}}).encode(), np.uint8)
    array = np.empty(1, object)
    array[0] = Trap()
    np.savez(path, allow_pickle=True, document=document, t0=array)
    with pytest.raises(EdgeIRError, match="cannot read the checkpoint"):
        Checkpoint.load(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(EdgeIRError, match="cannot read the checkpoint"):
        Checkpoint.load(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_optimizers_go_on_where_they_stood(kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    def steps(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            parameter.grad = torch.randn(8, generator=torch.Generator().manual_seed(seed))
            optimizer.step()

    keywords = {"lr": 0.1, "momentum": 0.9} if kind is torch.optim.SGD else {"lr": 0.1}
    whole = torch.nn.Parameter(torch.ones(8))
    steps(whole, kind([whole], **keywords), range(6))  # pyright: ignore[reportArgumentType]
    part = torch.nn.Parameter(torch.ones(8))
    optimizer = kind([part], **keywords)  # pyright: ignore[reportArgumentType]
    steps(part, optimizer, range(3))
    tensors, values = optimizer_state(optimizer)
    again = torch.nn.Parameter(part.detach().clone())
    fresh = kind([again], **keywords)  # pyright: ignore[reportArgumentType]
    restore_optimizer(fresh, {name: t.clone() for name, t in tensors.items()}, json.loads(json.dumps(values)))
    steps(again, fresh, range(3, 6))
    assert torch.equal(again, whole)


def test_random_generators_go_on_where_they_stood() -> None:
    own = torch.Generator().manual_seed(5)

    def draw() -> list[float]:
        np.random.normal()
        return [torch.rand(1).item(), np.random.normal(), random.gauss(0, 1), torch.rand(1, generator=own).item()]

    draw()
    tensors, values = random_state(own)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    expected = [draw() for _ in range(5)]
    restore_random_state(tensors, json.loads(json.dumps(values)), own)
    assert [draw() for _ in range(5)] == expected
