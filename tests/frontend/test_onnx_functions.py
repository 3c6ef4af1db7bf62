"""Constant branches, functions of the model, and function bodies of the standard."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeir.errors import UnsupportedModelError
from edgeir.frontend import from_model
from edgeir.ir.evaluate import evaluate
from tests.frontend.onnx_text_models import check, operators, parse

BRANCHES = (
    "<then_branch = t () => (float[N,2] a) { p = Exp(x) a = Relu(p) },"
    " else_branch = e () => (float[N,2] b) { b = Abs(x) }>"
)


@pytest.mark.parametrize(("flag", "expected"), [("1", ["exp", "relu"]), ("0", ["abs"])])
def test_constant_condition(flag: str, expected: list[str]) -> None:
    model = parse("(float[N,2] x) => (float[N,2] y)", f"y = If(c) {BRANCHES}", 13, f"bool c = {{{flag}}}")
    assert operators(check(model)) == expected


def test_condition_computed_from_shapes() -> None:
    body = f"s = Shape(x) n = Gather(s, o) c = Equal(n, t) y = If(c) {BRANCHES}"
    model = parse("(float[N,2] x) => (float[N,2] y)", body, 13, "int64 o = {1}, int64 t = {2}")
    assert operators(check(model)) == ["exp", "relu"]


def test_condition_on_a_symbolic_size_needs_it_fixed() -> None:
    body = f"s = Shape(x) n = Gather(s, o) c = Equal(n, t) y = If(c) {BRANCHES}"
    model = parse("(float[N,2] x) => (float[N,2] y)", body, 13, "int64 o = {0}, int64 t = {1}")
    with pytest.raises(UnsupportedModelError, match="condition"):
        from_model(model)
    assert operators(from_model(model, {"x": (1, 2)})) == ["exp", "relu"]
    assert operators(from_model(model, {"x": (3, 2)})) == ["abs"]


def test_nested_branches_with_weights_of_their_own() -> None:
    inner = (
        "then_branch = u () => (float[2] k) <float[2] w = {1.0, 2.0}> { k = Mul(x, w) },"
        " else_branch = v () => (float[2] l) { l = Neg(x) }"
    )
    body = (
        f"y = If(c) <then_branch = t () => (float[2] a) {{ q = If(c) <{inner}> a = Exp(q) }},"
        " else_branch = e () => (float[2] b) { b = Abs(x) }>"
    )
    model = parse("(float[2] x) => (float[2] y)", body, 13, "bool c = {1}")
    assert operators(check(model)) == ["mul", "exp"]


FUNCTIONS = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
network (float[N,4] x) => (float[N,4] y, float[N,4] z) {
  y = own.Scaled<factor = 3.0>(x, x)
  z = own.Scaled(x)
}
<domain: "own", opset_import: ["" : 17, "own" : 1]>
Scaled<factor: float = 2.0>(a, b) => (c) {
  f = Constant<value_float: float = @factor>()
  m = own.Twice(a)
  c = Mul(m, f)
}
<domain: "own", opset_import: ["" : 17]>
Twice(a) => (c) { c = Add(a, a) }
"""


def test_functions_of_the_model() -> None:
    graph = check(onnx.parser.parse_model(FUNCTIONS))
    assert operators(graph) == ["add", "mul", "add", "mul"]
    assert [value.name for value in graph.outputs] == ["y", "z"]
    assert next(iter(graph.nodes)).location.startswith("Scaled:y/Twice")


def test_function_bodies_of_the_standard() -> None:
    weights = {"s": np.arange(1, 5, dtype=np.float32)}
    model = parse("(float[2,4] x) => (float[2,4] y)", "y = RMSNormalization(x, s)", 23, weight_arrays=weights)
    graph = from_model(model)
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    expected = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * weights["s"]
    np.testing.assert_allclose(evaluate(graph, {"x": x})["y"], expected, rtol=1e-5)


def test_attention_on_symbolic_sequence() -> None:
    model = parse(
        "(float[B,2,T,8] q, float[B,2,T,8] k, float[B,2,T,8] v) => (float[B,2,T,8] y)", "y = Attention(q, k, v)", 23
    )
    graph = from_model(model)
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 2, 5, 8)).astype(np.float32) for _ in range(3))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(8)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(evaluate(graph, {"q": q, "k": k, "v": v})["y"], expected, rtol=1e-4, atol=1e-5)
