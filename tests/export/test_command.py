"""`edgeir export` on the command line's side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeir.commands.export import export_onnx
from edgeir.errors import EdgeIRError
from edgeir.export import export_model
from tests.export.onnx_engines import run_onnxruntime
from tests.export.test_models import quantized_graph


def test_passes_are_run_and_the_model_still_means_the_same(shared_models: Path, tmp_path: Path) -> None:
    source = shared_models / "mnist_cnn.onnx"
    line = export_onnx(source, tmp_path / "out.onnx", {"input": (1, 1, 28, 28)})
    assert line.startswith(f"{tmp_path / 'out.onnx'}: ") and "operator set 21" in line
    inputs = {"input": np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)}
    got, wanted = (run_onnxruntime(onnx.load(path), inputs) for path in (tmp_path / "out.onnx", source))
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, atol=1e-5 * float(np.ptp(array)), rtol=0)


def test_no_passes_keep_every_node(shared_models: Path, tmp_path: Path) -> None:
    export_onnx(shared_models / "mnist_cnn.onnx", tmp_path / "all.onnx", passes="")
    export_onnx(shared_models / "mnist_cnn.onnx", tmp_path / "few.onnx")
    counts = [len(onnx.load(tmp_path / name).graph.node) for name in ("all.onnx", "few.onnx")]
    assert counts[1] <= counts[0]


def test_a_quantized_model_goes_round_as_qdq(tmp_path: Path) -> None:
    export_model(quantized_graph(), tmp_path / "q.onnx")
    export_onnx(tmp_path / "q.onnx", tmp_path / "again.onnx", passes="", format="qdq")
    kinds = [node.op_type for node in onnx.load(tmp_path / "again.onnx").graph.node]
    assert kinds.count("QuantizeLinear") == 2


def test_a_float_model_is_no_qdq(shared_models: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeIRError, match="not quantized"):
        export_onnx(shared_models / "mnist_cnn.onnx", tmp_path / "q.onnx", format="qdq")
