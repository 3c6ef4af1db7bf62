"""Whole graphs exported: random ones, real ones, quantized ones, with symbolic dimensions, in one file or two."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

import edgeir
from edgeir.errors import EdgeIRError
from edgeir.export import export_model, save, to_onnx
from edgeir.ir import Graph, TensorType, symbol
from edgeir.ir.evaluate import evaluate
from edgeir.passes.pipelines import default_pipeline, simplification_pipeline
from edgeir.passmanager import PassContext, example_inputs
from edgeir.targets import lookup
from tests.export.onnx_engines import run_onnxruntime
from tests.strategies import assert_outputs_close, graphs, random_inputs

# Model → shape of its first input, None where it is fixed.
MODELS: dict[str, tuple[int, ...] | None] = {
    "mnist_cnn": (2, 1, 28, 28),
    "ppocr_cls": (1, 3, 48, 192),
    "silero_vad_16k_static": None,
    "ppocrv4_det": (1, 3, 64, 64),
    "efficientnet_lite0": (1, 3, 224, 224),
}


@given(graphs())
@settings(max_examples=60)
def test_random_graphs(graph: Graph) -> None:
    inputs = random_inputs(graph)
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert_outputs_close(run_onnxruntime(model, inputs), evaluate(graph, inputs))


@given(graphs())
@settings(max_examples=20)
def test_reimport_means_the_same(graph: Graph) -> None:
    inputs = random_inputs(graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        export_model(graph, path)
        again = edgeir.load(path)
    assert [value.name for value in again.inputs] == [value.name for value in graph.inputs]
    assert_outputs_close(evaluate(again, inputs), evaluate(graph, inputs))


def _relative_errors(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest errors relative to the outputs' largest magnitudes, of at least 0.1.

    ONNX Runtime approximates the sigmoid to 1.5e-7 absolute, which is much of a probability that is nearly 0.
    """
    ranges = {name: max(float(np.max(np.abs(array), initial=0.0)), 0.1) for name, array in wanted.items()}
    return {name: float(np.max(np.abs(got[name] - wanted[name]), initial=0.0)) / ranges[name] for name in wanted}


@pytest.mark.parametrize("name", MODELS)
def test_simplified_models_agree_with_the_originals(shared_models: Path, tmp_path: Path, name: str) -> None:
    path = shared_models / f"{name}.onnx"
    original = onnx.load(path)
    shape = MODELS[name]
    graph = edgeir.load(path, {original.graph.input[0].name: shape} if shape else None)
    simplification_pipeline().run(graph, PassContext())
    inputs = example_inputs(graph)
    export_model(graph, tmp_path / "out.onnx")
    got = run_onnxruntime(onnx.load(tmp_path / "out.onnx"), inputs)
    wanted = run_onnxruntime(original, inputs)
    for output, error in _relative_errors(got, wanted).items():
        assert error < 1e-5, output


def test_fused_and_blocked_graphs_export_as_plain_ones(shared_models: Path) -> None:
    graph = edgeir.load(shared_models / "mnist_cnn.onnx", {"input": (1, 1, 28, 28)})
    inputs = example_inputs(graph)
    wanted = evaluate(graph, inputs)
    target = lookup("x86-64-v3")
    default_pipeline(target).run(graph, PassContext(target=target))
    assert any(node.op == "fused" for node in graph.nodes)
    assert any(value.type.layout for node in graph.nodes for value in node.outputs)
    assert_outputs_close(run_onnxruntime(to_onnx(graph), inputs), wanted)


def test_symbolic_dimensions_stay_open(shared_models: Path) -> None:
    graph = edgeir.load(shared_models / "mnist_cnn.onnx")
    model = to_onnx(graph)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == str(graph.inputs[0].type.shape[0])
    for batch in (1, 3):
        inputs = {"input": np.random.default_rng(batch).random((batch, 1, 28, 28)).astype(np.float32)}
        assert_outputs_close(run_onnxruntime(model, inputs), evaluate(graph, inputs))


def test_symbolic_expressions_are_computed() -> None:
    n, h = symbol("N"), symbol("H")
    graph = Graph("expressions")
    x = graph.add_input("x", TensorType("float32", (n, h * 2 + 1, 4)))
    flat = graph.add_node("reshape", [x], {"shape": (n, (h * 2 + 1) * 4)}).output
    dims = graph.add_node("dims", [], {"values": (n * h - 1, (h + 1) // 2, 7)}).output
    count = graph.add_node("iota", [], {"size": h, "dtype": "float32"}).output
    part = graph.add_node("slice", [flat], {"starts": (n - 1, 0), "sizes": (n, h), "steps": (-1, 1)}).output
    wide = graph.add_node("expand", [count], {"shape": (n, h)}).output
    graph.set_outputs([("flat", flat), ("dims", dims), ("count", count), ("part", part), ("wide", wide)])
    model = to_onnx(graph)
    for sizes in ((1, 3, 4), (3, 9, 4)):
        inputs = {"x": np.random.default_rng(0).random(sizes).astype(np.float32)}
        assert_outputs_close(run_onnxruntime(model, inputs), evaluate(graph, inputs))


def quantized_graph() -> Graph:
    """x → quantize → dequantize → conv with per-channel int8 weights → quantize → dequantize."""
    rng = np.random.default_rng(0)
    graph = Graph("quantized")
    x = graph.add_input("x", TensorType("float32", (1, 3, 8, 8)))
    scale, zero = graph.add_constant(np.float32(0.02)), graph.add_constant(np.array(3, np.int8))
    q = graph.add_node("quantize", [x, scale, zero]).output
    real = graph.add_node("dequantize", [q, scale, zero]).output
    weights = graph.add_constant(rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), "w")
    scales = graph.add_constant(rng.uniform(0.01, 0.02, (4, 1, 1, 1)).astype(np.float32), "w_scale")
    w = graph.add_node("dequantize", [weights, scales, None]).output
    attributes = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}
    y = graph.add_node("conv", [real, w, None], attributes).output
    out = graph.add_node("quantize", [y, graph.add_constant(np.float32(0.1)), graph.add_constant(np.uint8(128))]).output
    final = graph.add_node("dequantize", [out, graph.add_constant(np.float32(0.1)), graph.add_constant(np.uint8(128))])
    graph.set_outputs([("y", final.output)])
    return graph


def test_qdq_format(tmp_path: Path) -> None:
    graph = quantized_graph()
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    model = export_model(graph, tmp_path / "q.onnx", "qdq")
    assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == 2
    weights = next(node for node in model.graph.node if node.op_type == "DequantizeLinear" and "w" in node.input)
    assert [a.i for a in weights.attribute if a.name == "axis"] == [0]
    got = run_onnxruntime(onnx.load(tmp_path / "q.onnx"), inputs)
    difference = np.abs(got["y"] - evaluate(graph, inputs)["y"])
    # A sum in another order may fall on the other side of a rounding boundary: one step, rarely.
    assert difference.max() < 0.101 and np.mean(difference > 1e-6) < 0.01


def test_qdq_of_a_float_graph_is_refused(tmp_path: Path) -> None:
    graph = Graph("plain")
    graph.set_outputs([("y", graph.add_node("relu", [graph.add_input("x", TensorType("float32", (2,)))]).output)])
    with pytest.raises(EdgeIRError, match="not quantized"):
        export_model(graph, tmp_path / "q.onnx", "qdq")
    with pytest.raises(EdgeIRError, match="unknown export format"):
        export_model(graph, tmp_path / "q.onnx", "tflite")
    assert not list(tmp_path.iterdir())


def test_large_tensors_go_beside_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    graph = Graph("large")
    x = graph.add_input("x", TensorType("float32", (1, 64)))
    y = graph.add_node("matmul", [x, graph.add_constant(rng.random((64, 64)).astype(np.float32))]).output
    graph.set_outputs([("y", y)])
    save(to_onnx(graph), tmp_path / "large.onnx", external_bytes=1000)
    assert (tmp_path / "large.onnx.data").stat().st_size >= 64 * 64 * 4
    assert (tmp_path / "large.onnx").stat().st_size < 1000
    inputs = {"x": rng.random((1, 64)).astype(np.float32)}
    assert_outputs_close(evaluate(edgeir.load(tmp_path / "large.onnx"), inputs), evaluate(graph, inputs))


def test_inputs_and_constants_as_outputs() -> None:
    graph = Graph("aliases")
    x = graph.add_input("x", TensorType("float32", (2,)))
    y = graph.add_node("relu", [x]).output
    constant = graph.add_constant(np.arange(3, dtype=np.float32))
    graph.set_outputs([("a", y), ("b", y), ("c", x), ("d", constant), ("x", x)])
    inputs = {"x": np.array([-1, 2], np.float32)}
    assert_outputs_close(run_onnxruntime(to_onnx(graph), inputs), evaluate(graph, inputs))
