"""Checkpoints of a training run: one `.npz` file of plain arrays and JSON, replaced atomically.

Nothing in it is pickled, and nothing is unpickled: a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeir.errors import EdgeIRError

FORMAT = 1
_NUMBERS = {torch.bfloat16: torch.int16, torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _NUMBERS}


@dataclass
class Checkpoint:
    """The state of a run.

    Attributes:
        tensors: name → tensor, on the CPU.
        values: whatever JSON can hold.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, prefix: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Adds tensors under `prefix/`."""
        for name, tensor in tensors.items():
            self.tensors[f"{prefix}/{name}"] = tensor.detach().cpu()

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors that were added under `prefix/`."""
        start = f"{prefix}/"
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}

    def save(self, path: Path) -> None:
        """Writes the file; a kill at any moment leaves either the old or the new one, whole."""
        arrays: dict[str, np.ndarray] = {}
        index = {}
        for position, (name, tensor) in enumerate(self.tensors.items()):
            stored = _NUMBERS.get(tensor.dtype)
            index[name] = [f"t{position}", str(tensor.dtype).removeprefix("torch.") if stored is not None else ""]
            arrays[f"t{position}"] = (tensor.view(stored) if stored is not None else tensor).numpy()
        document = {"format": FORMAT, "tensors": index, "values": self.values}
        arrays["document"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads a file.

        Raises:
            EdgeIRError: it is missing, damaged, or of another format.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                document = json.loads(archive["document"].tobytes())
                if document["format"] != FORMAT:
                    raise EdgeIRError(
                        "a checkpoint of another version", where=str(path), expected=FORMAT, got=document["format"]
                    )
                tensors = {}
                for name, (key, dtype) in document["tensors"].items():
                    tensor = torch.from_numpy(archive[key])
                    tensors[name] = tensor.view(_DTYPES[dtype]) if dtype else tensor
                return cls(tensors, document["values"])
        except EdgeIRError:
            raise
        except Exception as error:  # zipfile, zlib, json and numpy each raise types of their own.
            raise EdgeIRError(
                "cannot read the checkpoint", where=str(path), got=str(error), hint="remove the file to start again"
            ) from None


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file by way of a temporary one beside it, `partial_name`, which a kill may leave behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(partial_name(path))
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def partial_name(path: Path) -> str:
    """Name of the temporary file; always the same, so that killed runs leave one at most."""
    return f".{path.name}.partial"


# Optimizers


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state as tensors by name and JSON."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{key}"] = value
            else:
                values.setdefault(str(index), {})[key] = value
    return tensors, {"state": values, "groups": state["param_groups"]}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]
) -> None:
    """Puts back what `optimizer_state` took."""
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in values["state"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": values["groups"]})


# Random generators


def random_state(generator: torch.Generator | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The state of the global generators of torch (all devices), numpy and Python, and of one more of torch."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).copy())}
    if torch.cuda.is_available():
        tensors |= {f"cuda/{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    if generator is not None:
        tensors["generator"] = generator.get_state()
    version, words, gauss = random.getstate()
    values = {"numpy": [name, int(position), int(has_gauss), float(cached)], "python": [version, list(words), gauss]}
    return tensors, values


def restore_random_state(
    tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any], generator: torch.Generator | None = None
) -> None:
    """Puts back what `random_state` took."""
    torch.set_rng_state(tensors["torch"])
    name, position, has_gauss, cached = values["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy(), position, has_gauss, cached))
    version, words, gauss = values["python"]
    random.setstate((version, tuple(words), gauss))
    cuda = [state for key, state in tensors.items() if key.startswith("cuda/")]
    if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
    if generator is not None and "generator" in tensors:
        generator.set_state(tensors["generator"])
