"""Model files: read, checked against the standard, with limits on what is accepted."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.frontend.onnx.external_data import external_file, is_external, model_tensors, read_external

OLDEST_OPSET = 6
LARGEST_FILE = 2**31 - 1
"""Protobuf's own limit, in bytes; larger models keep their weights in external data."""


def read_model(path: Path) -> tuple[onnx.ModelProto, Path]:
    """Reads and checks a model file.

    Returns:
        The model, external data not yet loaded, and the folder it lies in.

    Raises:
        EdgeIRError: no such file, not a model, or one that the checker refuses.
    """
    if not path.is_file():
        raise EdgeIRError("no such model file", got=str(path), expected="an ONNX file")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise EdgeIRError(
            "the model file is too large",
            where=str(path),
            expected=f"at most {LARGEST_FILE} bytes",
            got=size,
            hint="save the weights as external data",
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise EdgeIRError("not an ONNX model", where=str(path), expected="a protobuf file", got=str(error)) from None
    except OSError as error:
        raise EdgeIRError("the model file cannot be read", where=str(path), got=str(error)) from None
    check_versions(model, str(path))
    external = [tensor for tensor in model_tensors(model) if is_external(tensor)]
    for tensor in external:
        external_file(tensor, path.parent)
    run_checker(str(path) if external else model, str(path))
    return model, path.parent


def check_proto(model: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    """Checks a model in memory; returns it with external data loaded.

    Raises:
        EdgeIRError: not a valid model, or external data that cannot be read.
    """
    check_versions(model, "the model")
    if any(is_external(tensor) for tensor in model_tensors(model)):
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        model = copied
        for tensor in model_tensors(model):
            if is_external(tensor):
                tensor.raw_data = read_external(tensor, folder)
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
    run_checker(model, "the model")
    return model


def check_versions(model: onnx.ModelProto, where: str) -> None:
    """Checks that the model has a graph with outputs, and versions that are known.

    Raises:
        EdgeIRError: it has not.
    """
    if not model.HasField("graph") or not model.ir_version:
        raise EdgeIRError("not an ONNX model", where=where, expected="a model with a graph", got="no graph")
    if not model.graph.output:
        raise EdgeIRError("the model has no outputs", where=where)
    if model.ir_version > onnx.IR_VERSION:
        raise EdgeIRError(
            "the model is newer than the installed onnx",
            where=where,
            expected=f"ir_version ≤ {onnx.IR_VERSION}",
            got=model.ir_version,
            hint="install a newer onnx",
        )
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            newest = onnx.defs.onnx_opset_version()
            if entry.version > newest:
                raise EdgeIRError(
                    "the model is newer than the installed onnx",
                    where=where,
                    expected=f"opset ≤ {newest}",
                    got=entry.version,
                    hint="install a newer onnx",
                )
            if entry.version < OLDEST_OPSET:
                raise UnsupportedModelError(
                    "the model's opset is too old",
                    where=where,
                    expected=f"opset {OLDEST_OPSET} or later",
                    got=entry.version,
                    hint="convert it with onnx.version_converter",
                )


def run_checker(model: onnx.ModelProto | str, where: str) -> None:
    """Runs the standard's own checker. Types are checked by the import itself: the checker's own inference refuses
    some valid models (MeanVarianceNormalization of opset 9).

    Raises:
        EdgeIRError: the model is not valid.
    """
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # The checker raises many types, ValueError for a failed serialisation among them.
        raise EdgeIRError("not a valid ONNX model", where=where, got=_shorten(str(error))) from None


def _shorten(text: str, limit: int = 1000) -> str:
    text = text.strip()
    return text if len(text) <= limit else text[:limit] + " …"
