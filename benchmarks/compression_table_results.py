"""The JSON of the compression table, which several processes may fill at once."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeir.training.checkpoints import write_atomically


def read_results(path: Path) -> dict[str, Any]:
    """The document; an empty one if there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"results": []}


def has_row(path: Path, key: str, seed: int, name: str) -> bool:
    """Whether a row with these settings is finished."""
    rows = read_results(path)["results"]
    return any((row["settings"], row["seed"], row["row"]) == (key, seed, name) for row in rows)


def add_row(path: Path, header: dict[str, Any], key: str, settings: dict[str, Any], row: dict[str, Any]) -> None:
    """Adds a finished row, and its settings under their key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with claim(path.with_suffix(".claim"), wait=True):
        document = read_results(path) | header
        document.setdefault("settings", {})[key] = settings
        document["results"].append(row)
        _write(path, document)


def change_row(path: Path, key: str, seed: int, name: str, change: dict[str, Any]) -> None:
    """Replaces entries of a row."""
    with claim(path.with_suffix(".claim"), wait=True):
        document = read_results(path)
        for row in document["results"]:
            if (row["settings"], row["seed"], row["row"]) == (key, seed, name):
                row |= change
        _write(path, document)


def settings_key(settings: dict[str, Any]) -> str:
    """A short name of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def row_folder(work: Path, key: str, seed: int, name: str) -> Path:
    """Where a row keeps its checkpoints and artifacts."""
    return work / f"{key}-{seed}" / "".join(c if c.isalnum() else "-" for c in name)


@contextmanager
def claim(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Keeps other processes from working on the same while the block runs; a process that ends loses its claims.

    Args:
        folder: what is worked on.
        wait: whether to wait for it while another process has it.

    Yields:
        Whether it is this process's now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _write(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
