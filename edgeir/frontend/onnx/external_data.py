"""Tensor data kept outside the model file: read from the model's own folder, never from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from edgeir.errors import EdgeIRError


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's data lies in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def tensors_of(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """All tensors of a graph: initializers and attributes, those of subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def model_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model, those in functions included."""
    yield from tensors_of(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_nodes(nodes: object) -> Iterator[TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from tensors_of(graph)


def external_file(tensor: TensorProto, folder: Path | None) -> Path:
    """The file that holds a tensor's data.

    Raises:
        EdgeIRError: it lies outside the folder, by an absolute path, `..`, a symbolic or a hard link, or is no file.
    """
    where = f"tensor {tensor.name!r}"
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if folder is None:
        raise EdgeIRError("the model has external data, and its folder is not known", where=where, got=location)
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    if not location or "\0" in location or windows.drive or windows.root or posix.is_absolute():
        raise _outside(where, location)
    if ".." in windows.parts or ".." in posix.parts:
        raise _outside(where, location)
    root = Path(os.path.realpath(folder))
    file = Path(os.path.realpath(root / posix))
    if not file.is_relative_to(root):
        raise _outside(where, location)
    if not file.is_file():
        raise EdgeIRError("a file of external data is missing", where=where, expected=str(file))
    # A second name of the same file may lie anywhere, so that its contents need not belong to the model.
    if file.stat().st_nlink > 1:
        raise EdgeIRError(
            "external data must not be a hard link", where=where, got=location, hint="copy the file instead"
        )
    return file


def _outside(where: str, location: str) -> EdgeIRError:
    return EdgeIRError(
        "external data must lie in the model's folder",
        where=where,
        expected="a relative path inside the folder of the model file",
        got=repr(location),
    )


def read_external(tensor: TensorProto, folder: Path | None) -> bytes:
    """The bytes of an external tensor.

    Raises:
        EdgeIRError: as `external_file`, or the file is too short for the offset and length.
    """
    file = external_file(tensor, folder)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"tensor {tensor.name!r}"
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries["length"]) if "length" in entries else size - offset
    except ValueError:
        raise EdgeIRError("offset and length of external data must be integers", where=where, got=entries) from None
    if offset < 0 or length < 0 or offset + length > size:
        raise EdgeIRError(
            "external data reaches beyond its file",
            where=where,
            expected=f"at most {size} bytes",
            got=f"{length} bytes from {offset}",
        )
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)
