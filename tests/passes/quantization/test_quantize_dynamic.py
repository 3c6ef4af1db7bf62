from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeir.frontend import from_model
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import lookup

F = np.float32


def network(transposed: bool = False) -> Graph:
    """Two products of one input, one of a product."""
    rng = np.random.default_rng(0)

    def weights(depth: int, columns: int) -> np.ndarray:
        array = rng.standard_normal((depth, columns)).astype(F)
        return np.ascontiguousarray(array.T) if transposed else array

    b = Builder("mlp")
    x = b.input("x", "float32[2, 9, 64]")
    h = b.relu(b.add(b.matmul(x, weights(64, 80), transpose_b=transposed), rng.standard_normal(80).astype(F)))
    y = b.matmul(h, weights(80, 64), transpose_b=transposed)
    return b.outputs(
        y=b.add(y, b.matmul(x, weights(64, 64), transpose_b=transposed)),
        small=b.matmul(y, weights(64, 3), transpose_b=transposed),
    )


def operators(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("options", ["", "{per-column=false}", "{pairs=yes}"])
def test_results_stay_close(transposed: bool, options: str) -> None:
    graph = network(transposed)
    inputs = {"x": np.random.default_rng(1).standard_normal((2, 9, 64)).astype(F)}
    expected = evaluate(graph, inputs)
    Pipeline(f"quantize-dynamic{options},common-subexpressions").run(graph, PassContext(keep_reproducer=False))
    assert operators(graph).count("matmul_integer") == 3
    assert operators(graph).count("matmul") == 1, "the small product stays"
    assert operators(graph).count("quantize") == 2, "what is read twice is quantized once"
    got = evaluate(graph, inputs)
    for name, array in expected.items():
        assert np.sqrt(np.mean((got[name] - array) ** 2)) < 0.02 * array.std()
    if options == "{pairs=yes}":
        for node in graph.nodes:
            if node.op == "matmul_integer":
                w = np.abs(node.input(1).data.astype(int))
                w = w if transposed else w.T
                assert (w[:, ::2] + w[:, 1::2]).max() <= 128


def test_zeros_and_matrices_from_afar() -> None:
    graph = network()
    Pipeline("quantize-dynamic").run(graph, PassContext(keep_reproducer=False))
    result = evaluate(graph, {"x": np.zeros((2, 9, 64), F)})
    assert all(np.isfinite(array).all() for array in result.values())


def test_compiled_product_of_a_computed_zero_point() -> None:
    graph, target = network(), lookup("host")
    inputs = {"x": np.random.default_rng(1).uniform(-1, 3, (2, 9, 64)).astype(F)}
    context = PassContext(target=target, keep_reproducer=False)
    Pipeline("quantize-dynamic").run(graph, context)
    expected = evaluate(graph, inputs)
    default_pipeline(target).run(graph, context)
    products = [
        inner
        for node in graph.nodes
        if node.op == "fused"
        for inner in node.attributes["body"].nodes
        if inner.op == "matmul_integer"
    ]
    assert len(products) == 3 and all(len(product.present_inputs) == 2 for product in products)
    got = Runner(graph, build(graph, target, 1))(inputs)
    for name, array in expected.items():
        # A tie may be rounded the other way, which moves one element of an input by a step.
        np.testing.assert_allclose(got[name], array, atol=0.01 * np.abs(array).max())


def test_what_onnxruntime_quantizes_dynamically() -> None:
    rng = np.random.default_rng(2)
    text = """<ir_version: 8, opset_import: ["" : 17]>
    network (float[3,32] x) => (float[3,16] y) {
        q, s, z = DynamicQuantizeLinear(x)
        n = MatMulInteger(q, w, z, wz)
        f = Cast<to=1>(n)
        t = Mul(s, ws)
        y = Mul(f, t)
    }"""
    model = onnx.parser.parse_model(text)
    arrays = {"w": rng.integers(0, 256, (32, 16)).astype(np.uint8), "wz": np.array(128, np.uint8), "ws": F(0.01)}
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    x = rng.standard_normal((3, 32)).astype(F)
    expected = np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])
    graph, target = from_model(model), lookup("host")
    default_pipeline(target).run(graph, PassContext(target=target, keep_reproducer=False))
    np.testing.assert_allclose(evaluate(graph, {"x": x})["y"], expected, atol=0.01 * np.abs(expected).max())
    inner = [n for node in graph.nodes if node.op == "fused" for n in node.attributes["body"].nodes]
    (product,) = [n for n in inner if n.op == "matmul_integer"]
    assert len(product.present_inputs) == 2
    assert sum(n.op == "dequantize" for n in inner) == 1


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(), (1, 80)])
def test_weights_that_are_stored_in_eight_bits_are_used_as_they_are(transposed: bool, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (80, 64) if transposed else (64, 80)).astype(np.int8)
    scale = rng.uniform(0.01, 0.02, shape).astype(F)
    b = Builder("stored")
    x = b.input("x", "float32[9, 64]")
    weights = b.dequantize(codes, scale.T if transposed and shape else scale)
    graph = b.outputs(y=b.matmul(x, weights, transpose_b=transposed))
    inputs = {"x": rng.standard_normal((9, 64)).astype(F)}
    expected = evaluate(graph, inputs)["y"]
    Pipeline("quantize-dynamic").run(graph, PassContext(keep_reproducer=False))
    assert operators(graph).count("matmul_integer") == 1
    assert any(np.array_equal(value.data, codes) for value in graph.constants if value.type.dtype == "int8")
    got = evaluate(graph, inputs)["y"]
    assert np.sqrt(np.mean((got - expected) ** 2)) < 0.02 * expected.std()


def test_a_scale_along_the_sum_stays() -> None:
    b = Builder("stored")
    x = b.input("x", "float32[9, 64]")
    weights = b.dequantize(np.ones((64, 80), np.int8), np.ones((64, 1), F))
    graph = b.outputs(y=b.matmul(x, weights))
    Pipeline("quantize-dynamic").run(graph, PassContext(keep_reproducer=False))
    assert "matmul_integer" not in operators(graph)
