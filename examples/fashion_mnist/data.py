"""Fashion-MNIST from IDX files (Xiao, Rasul & Vollgraf 2017): 60,000 + 10,000 grey images of 28×28, ten classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.training.idx import read_idx

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the files."""

MEAN, DEVIATION = 0.2860, 0.3530
"""Of all training pixels in 0 … 1."""


@dataclass(frozen=True)
class ImageData:
    """Normalised images float32 (N, 1, 28, 28) and labels int64 (N)."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def load_images(folder: str | Path = DEBIAN_FOLDER) -> ImageData:
    """The data of a folder with the four files under their usual names, gzipped or not.

    Raises:
        EdgeIRError: a file is missing or damaged, or images and labels do not fit.
    """
    return ImageData(_part(Path(folder), "train"), _part(Path(folder), "t10k"))


def _part(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(_file(folder, f"{name}-images-idx3-ubyte"))
    labels = read_idx(_file(folder, f"{name}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise EdgeIRError(
            "images and labels do not fit", where=str(folder), got=f"{list(images.shape)}, {list(labels.shape)}"
        )
    scaled = (images[:, None].astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
    return scaled, labels.astype(np.int64)


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise EdgeIRError(
        "a data file is missing",
        where=str(folder / name),
        hint="install Debian's dataset-fashion-mnist, or name a folder with the four IDX files with --data",
    )
