from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import Graph, TensorType, symbol
from edgeir.ir.evaluate import evaluate
from tests.ops.onnx_oracle import onnx_run

N = symbol("N")
POINTWISE = {"strides": [1, 1], "padding": [0] * 4, "dilations": [1, 1]}
X, W = TensorType("float32", (N, 8, 4, 4)), TensorType("float32", (16, 8, 1, 1))


def body(x: TensorType = X, layout: str = "") -> Graph:
    graph = Graph("body")
    operands = [graph.add_input("x", x), graph.add_input("w", W)]
    conv = graph.add_node("conv", operands, POINTWISE, output_layouts=[layout] if layout else None).output
    half = graph.add_constant(np.array(0.5, np.float32))
    scaled = graph.add_node("mul", [conv, half]).output
    graph.set_outputs({"y": graph.add_node("relu", [scaled]).output, "conv": conv})
    return graph


def wrap(inside: Graph, types: list[TensorType], anchor: str = "conv") -> Graph:
    graph = Graph()
    operands = [graph.add_input(f"i{i}", type) for i, type in enumerate(types)]
    node = graph.add_node("fused", operands, {"body": inside, "anchor": anchor})
    graph.set_outputs([(f"o{i}", value) for i, value in enumerate(node.outputs)])
    graph.verify()
    return graph


def test_computes_its_body() -> None:
    graph = wrap(body(), [X, W])
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 8, 4, 4), W.static_shape))
    results = evaluate(graph, {"i0": x, "i1": w})
    conv = onnx_run("Conv", [x, w])
    np.testing.assert_allclose(results["o1"], conv, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results["o0"], np.maximum(conv / 2, 0), rtol=1e-4, atol=1e-5)


def test_types_and_macs_of_the_body() -> None:
    graph = wrap(body(), [X, W])
    (node,) = graph.nodes
    assert [value.type for value in node.outputs] == [TensorType("float32", (N, 16, 4, 4))] * 2
    types: list[Any] = [value.type for value in node.present_inputs]
    assert node.definition.macs(types, [v.type for v in node.outputs], node.attributes) == N * 16 * 16 * 8
    assert graph.bind({"N": 3}).outputs[0].type.shape == (3, 16, 4, 4)


def test_layouts_of_the_body() -> None:
    written = wrap(body(layout="NCHW8c"), [X, W])
    assert [value.type.layout for value in written.outputs] == ["NCHW8c", "NCHW8c"]
    assert [value.type.layout for value in written.copy().outputs] == ["NCHW8c", "NCHW8c"]
    blocked = X.with_layout("NCHW8c")
    read = wrap(body(blocked), [blocked, W])
    assert [value.type.layout for value in read.outputs] == ["", ""]
    for inside, outside in ((X, blocked), (blocked, X)):
        with pytest.raises(EdgeIRError, match="another layout than the body"):
            wrap(body(inside), [outside, W])


def test_wrong_operands() -> None:
    with pytest.raises(TypeInferenceError, match="differ in operands"):
        wrap(body(), [X])
    with pytest.raises(TypeInferenceError, match="operand 0 does not fit the body"):
        wrap(body(), [TensorType("float32", (N, 8, 5, 4)), W])
    with pytest.raises(TypeInferenceError, match="no such anchor"):
        wrap(body(), [X, W], anchor="matmul")
    large = body()
    large.add_constant(np.zeros(2, np.float32))
    with pytest.raises(TypeInferenceError, match="large constant"):
        wrap(large, [X, W])
