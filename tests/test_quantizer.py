"""Quantization after training: the API, the command, and what other engines make of the file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

import edgeir
from edgeir.cli import app
from edgeir.errors import EdgeIRError
from edgeir.execution import CompiledGraph
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate

CONV = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}


def network() -> Graph:
    generator = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / 6).astype(np.float32)

    b = Builder("network")
    x = b.input("x", "float32[1, 3, 12, 12]")
    y = b.relu(b.conv(x, weights(8, 3, 3, 3), weights(8), **CONV))
    z = b.clip(b.conv(y, weights(8, 1, 3, 3), **(CONV | {"groups": 8})), minimum=0.0, maximum=6.0)
    total = b.add(b.conv(z, weights(8, 8, 3, 3), weights(8), **CONV), y)
    flat = b.reshape(b.reduce_mean(total, axes=(2, 3), keepdims=True), shape=(1, 8))
    return b.outputs(scores=b.add(b.matmul(flat, weights(8, 5)), weights(5)))


def data(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 12, 12)).astype(np.float32)


def engine(path: Path, optimized: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if optimized is None else levels.ORT_ENABLE_EXTENDED
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def test_report() -> None:
    result = edgeir.quantize(network(), data(8), evaluation=data(4, seed=1))
    report = result.report
    assert [layer.op for layer in report.layers] == ["conv", "conv", "conv", "matmul"]
    assert all(layer.weight_bits == 8 and layer.sqnr_db > 20 for layer in report.layers)
    assert report.layers[1].output_range is not None and report.layers[1].output_range[1] <= 6.0
    assert report.layers[3].output_range is None
    assert (report.calibration_samples, report.evaluation_samples) == (8, 4)
    (output,) = report.outputs
    samples = [{"x": part[None]} for part in data(4, seed=1)]
    pairs = [(evaluate(result.graph, s)["scores"], evaluate(network(), s)["scores"]) for s in samples]
    assert output.max_error == pytest.approx(max(np.abs(a - b).max() for a, b in pairs), rel=1e-3)
    assert output.min_cosine == pytest.approx(
        min(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs), abs=1e-5
    )
    assert output.top1 == np.mean([a.argmax() == b.argmax() for a, b in pairs])
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("placement", ["portable", "fused"])
@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize(("bits", "scheme"), [(8, "linear"), (4, "linear"), (4, "log2")])
def test_onnxruntime_computes_what_the_graph_says(
    tmp_path: Path, placement: str, activations: str, bits: int, scheme: str
) -> None:
    options: dict[str, Any] = {"placement": placement, "activations": activations, "bits": bits, "scheme": scheme}
    result = edgeir.quantize(network(), data(4), compare_outputs=False, **options)
    path = tmp_path / "q.onnx"
    edgeir.export_onnx(result.graph, path, "qdq" if scheme == "linear" else "float")
    session = engine(path)
    for part in data(3, seed=2):
        expected = evaluate(result.graph, {"x": part[None]})["scores"]
        # A sum that is rounded the other way moves a value by one step.
        assert relative(session.run(None, {"x": part[None]})[0], expected) < 0.01


def test_onnxruntime_fuses_integer_operators(tmp_path: Path) -> None:
    # Weights whose neighbours are limited: its kernels for AVX2 add pairs of products in 16 bits, too.
    result = edgeir.quantize(network(), data(4), target="x86-64-v3", compare_outputs=False)
    path = tmp_path / "q.onnx"
    edgeir.export_onnx(result.graph, path)
    session = engine(path, tmp_path / "optimized.onnx")
    ops = Counter(node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node)
    assert ops["QLinearConv"] == 3 and ops["QLinearAdd"] == 1 and not ops["Conv"]
    part = data(1, seed=2)
    assert relative(session.run(None, {"x": part})[0], evaluate(network(), {"x": part})["scores"]) < 0.1


def test_the_file_is_read_back_to_the_same_numbers(tmp_path: Path) -> None:
    result = edgeir.quantize(network(), data(4), compare_outputs=False)
    edgeir.export_onnx(result.graph, tmp_path / "q.onnx")
    again = edgeir.load(tmp_path / "q.onnx")
    assert Counter(node.op for node in again.nodes)["quantize"] == 7
    part = {"x": data(1, seed=2)}
    assert relative(evaluate(again, part)["scores"], evaluate(result.graph, part)["scores"]) < 0.01


def test_compiled_and_interpreted_values_agree() -> None:
    result = edgeir.quantize(network(), data(4), compare_outputs=False)
    part = {"x": data(1, seed=2)}
    for graph in (network(), result.graph):
        assert relative(CompiledGraph(graph)(part)["scores"], evaluate(graph, part)["scores"]) < 0.01


def test_a_compiled_graph_takes_the_sizes_of_its_inputs() -> None:
    b = Builder("open")
    x = b.input("x", "float32[N, 4]")
    run = CompiledGraph(b.outputs(y=b.relu(x)))
    for size in (1, 3):
        x_data = np.random.default_rng(size).standard_normal((size, 4)).astype(np.float32)
        np.testing.assert_array_equal(run({"x": x_data})["y"], np.maximum(x_data, 0))


def test_skipped_layers_stay_float() -> None:
    report = edgeir.quantize(network(), data(2), skip=["matmul"]).report
    assert [layer.op for layer in report.layers] == ["conv"] * 3
    graph = edgeir.quantize(network(), data(2), skip=["matmul"], compare_outputs=False).graph
    matmul = next(node for node in graph.nodes if node.op == "matmul")
    assert matmul.input(1).is_constant and matmul.input(1).type.dtype == "float32"


def test_the_model_given_is_not_changed() -> None:
    graph = network()
    before = str(graph)
    edgeir.quantize(graph, data(2), compare_outputs=False)
    assert str(graph) == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("observer", "mean", "unknown value"),
        ("placement", "everywhere", "unknown value"),
        ("scheme", "cubic", "unknown value"),
        ("activations", "int7", "unknown value"),
        ("bits", 5, "number of bits"),
    ],
)
def test_unknown_options(option: str, value: object, message: str) -> None:
    with pytest.raises(EdgeIRError, match=message):
        edgeir.quantize(network(), data(2), **{option: value})  # pyright: ignore[reportArgumentType]


def test_command(tmp_path: Path) -> None:
    edgeir.export_onnx(network(), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=data(4))
    arguments = [str(tmp_path / "model.onnx"), "--calibration", str(tmp_path / "samples.npz")]
    output, report = tmp_path / "q.onnx", tmp_path / "report.json"
    done = CliRunner().invoke(app, ["quantize", *arguments, "-o", str(output), "--report", str(report)])
    assert done.exit_code == 0, done.output
    assert "scores" in done.output and "calibrated on 4 samples" in done.output
    assert len(json.loads(report.read_text())["layers"]) == 4
    part = data(1, seed=2)
    assert relative(engine(output).run(None, {"x": part})[0], evaluate(network(), {"x": part})["scores"]) < 0.05
    text = tmp_path / "q.edgeir"
    done = CliRunner().invoke(app, ["quantize", *arguments, "-o", str(text), "--scheme", "log2", "--bits", "4"])
    assert done.exit_code == 0, done.output
    assert "log_dequantize" in text.read_text()


def test_command_with_bad_input(tmp_path: Path) -> None:
    edgeir.export_onnx(network(), tmp_path / "model.onnx")
    arguments = ["quantize", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "q.onnx"), "--calibration"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "nothing.npz")])
    assert isinstance(done.exception, EdgeIRError) and not (tmp_path / "q.onnx").exists()


def test_dynamic_needs_no_samples(tmp_path: Path) -> None:
    b = Builder("mlp")
    x = b.input("x", "float32[4, 64]")
    weights = np.random.default_rng(0).standard_normal((64, 80)).astype(np.float32)
    graph = b.outputs(y=b.relu(b.matmul(x, weights)))
    model, output = tmp_path / "mlp.onnx", tmp_path / "dynamic.onnx"
    edgeir.export_onnx(graph, model)
    result = CliRunner().invoke(app, ["quantize", str(model), "--dynamic", "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert "MatMulInteger" in {node.op_type for node in onnx.load(str(output)).graph.node}
    array = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    assert relative(engine(output).run(None, {"x": array})[0], evaluate(graph, {"x": array})["y"]) < 0.02
    compared = edgeir.quantize(graph, [{"x": array}], dynamic=True)
    assert compared.report.outputs[0].mean_cosine > 0.999
    with pytest.raises(EdgeIRError, match="no calibration samples"):
        edgeir.quantize(graph, None)
