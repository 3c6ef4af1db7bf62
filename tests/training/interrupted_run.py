"""A training run in processes that kill themselves; started by `test_fit_resume.py`.

    python interrupted_run.py FOLDER KIND KILL_AT…

KIND says how the data comes. The processes are forked one after another, so that torch is imported once: one for each
KILL_AT, which dies at that step (`w8`: while the checkpoint after step 8 is written), and one that runs to the end.
The last one's weights go to FOLDER/weights.npz.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from edgeir.training.augmentation import augmentation
from edgeir.training.fit import fit


def network() -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 36, 5),
    )


def train(folder: Path, kind: str, kill_at: str) -> None:
    rng = np.random.default_rng(3)
    images, labels = rng.normal(size=(70, 1, 6, 6)).astype(np.float32), rng.integers(0, 5, 70)
    arrays = (images, labels)
    dataset = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    loader = DataLoader(dataset, batch_size=16, shuffle=True)
    data = {"arrays": arrays, "dataset": dataset, "loader": loader, "bfloat16": arrays}[kind]

    def on_step(step: int, loss: float) -> None:
        if kill_at == str(step):
            os.kill(os.getpid(), signal.SIGKILL)
        if kill_at == f"w{step}":
            os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

    module = network()
    fit(
        *(module, data),
        epochs=4,
        batch_size=16,
        validation=arrays,
        optimizer="adamw",
        learning_rate=0.01,
        warmup=0.5,
        augment=augmentation(["shift=1", "flip"]) if kind == "arrays" else None,
        keep_best=True,
        precision="bfloat16" if kind == "bfloat16" else "float32",
        folder=folder,
        checkpoint_steps=3,
        on_step=on_step,
    )
    np.savez(folder / "weights.npz", **{name: tensor.numpy() for name, tensor in module.state_dict().items()})


def main() -> None:
    torch.set_num_threads(1)
    folder, kind, *kills = sys.argv[1:]
    for kill_at in (*kills, ""):
        child = os.fork()
        if not child:
            train(Path(folder), kind, kill_at)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        expected = signal.SIGKILL if kill_at else 0
        if status != expected:
            raise SystemExit(f"the process for {kill_at!r} ended with status {status}")


if __name__ == "__main__":
    main()
