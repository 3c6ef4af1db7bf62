"""External data: read from the model's folder, refused from anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeir.errors import EdgeIRError
from edgeir.frontend import from_model, load
from edgeir.ir.evaluate import evaluate
from tests.frontend.onnx_text_models import parse

WEIGHTS = np.arange(16, dtype=np.float32).reshape(4, 4)


def external(location: str, offset: int | None = None, length: int | None = None) -> onnx.ModelProto:
    model = parse("(float[1,4] x) => (float[1,4] y)", "y = MatMul(x, w)", 13, weight_arrays={"w": WEIGHTS})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return model


def write(folder: Path, model: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["weights.bin", "parts/weights.bin"])
def test_read(location: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model", external(location, offset=8, length=64))
    file = path.parent / location
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\1" * 8 + WEIGHTS.tobytes())
    x = np.array([[1, 2, 3, 4]], np.float32)
    for graph in (load(path), from_model(onnx.load(path, load_external_data=False), base_folder=path.parent)):
        np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], x @ WEIGHTS)


def test_a_link_inside_the_folder_is_fine(tmp_path: Path) -> None:
    path = write(tmp_path, external("link.bin"))
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "link.bin").symlink_to("weights.bin")
    model = onnx.load(path, load_external_data=False)
    graph = from_model(model, base_folder=tmp_path)
    np.testing.assert_array_equal(graph.value("w").data, WEIGHTS)


@pytest.mark.parametrize("kind", ["absolute", "dots", "inner dots", "symlink", "linked folder", "hard link", "windows"])
def test_leaving_the_folder_is_refused(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(WEIGHTS.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "inner").mkdir()
    match kind:
        case "absolute":
            location = str(secret)
        case "dots":
            location = "../secret.bin"
        case "inner dots":
            location = "inner/../../secret.bin"
        case "windows":
            location = "..\\secret.bin"
        case "symlink":
            location = "link.bin"
            (folder / location).symlink_to(secret)
        case "linked folder":
            location = "out/secret.bin"
            (folder / "out").symlink_to(tmp_path)
        case _:
            location = "hard.bin"
            os.link(secret, folder / location)
    path = write(folder, external(location))
    with pytest.raises(EdgeIRError, match="external data"):
        load(path)
    with pytest.raises(EdgeIRError, match="external data"):
        from_model(external(location), base_folder=folder)


@pytest.mark.parametrize(("offset", "length"), [(0, 1000), (1000, 4), (-4, 64), (0, -64), (0, 60), (4, None)])
def test_wrong_extent(offset: int, length: int | None, tmp_path: Path) -> None:
    path = write(tmp_path, external("weights.bin", offset, length))
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(EdgeIRError):
        load(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    path = write(tmp_path, external("weights.bin"))
    with pytest.raises(EdgeIRError, match="missing"):
        load(path)
    with pytest.raises(EdgeIRError, match="folder is not known"):
        from_model(external("weights.bin"))
