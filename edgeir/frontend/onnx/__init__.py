"""ONNX models, opsets 6 and later, into the IR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

import edgeir.frontend.onnx.converters
import edgeir.ops  # noqa: F401
from edgeir.frontend.onnx.importer import import_model
from edgeir.frontend.onnx.old_versions import upgraded
from edgeir.frontend.onnx.reading import check_proto, read_model
from edgeir.ir import Dim, Graph

__all__ = ["from_model", "load"]

Shapes = Mapping[str, Sequence[Dim | str | None]]


def load(path: str | Path, shapes: Shapes | None = None, freeze: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Reads an ONNX file.

    Args:
        path: the `.onnx` file; external data is read from its folder and nowhere else.
        shapes: input name → shape, to fix symbolic dimensions: integers; None or -1 where a dimension stays as it
            is; or an expression over names, such as "batch" or "32*h" for a multiple of 32.
        freeze: input name → array: inputs that become constants.

    Returns:
        The network as a verified graph; its inputs and outputs have the model's names.

    Raises:
        UnsupportedModelError: the model has nodes that cannot be imported; all of them are listed.
        EdgeIRError: the file is not a valid model, or the shapes do not fit it.
    """
    model, folder = read_model(Path(path))
    return import_model(upgraded(model), shapes or {}, freeze or {}, folder)


def from_model(
    model: onnx.ModelProto,
    shapes: Shapes | None = None,
    base_folder: str | Path | None = None,
    freeze: Mapping[str, np.ndarray] | None = None,
) -> Graph:
    """Imports a model that is in memory. As `load`; external data is read from `base_folder`.

    Raises:
        EdgeIRError: as `load`, or the model has external data and no folder is given.
    """
    folder = None if base_folder is None else Path(base_folder)
    return import_model(upgraded(check_proto(model, folder)), shapes or {}, freeze or {}, folder)
