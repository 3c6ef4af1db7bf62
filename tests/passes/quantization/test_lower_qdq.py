"""Integer networks give the integers of the fake-quantized ones, or in rare cases of rounding their neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

from edgeir.ir import Builder, Graph, Value
from edgeir.ir.evaluate import evaluate
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import Target, lookup
from tests.passes.quantization.qdq_graphs import qdq_graphs

F = np.float32
CONV = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}
TARGETS = {"none": None, "x86": lookup("x86-64-v3"), "arm": lookup("cortex-a76")}


def lower(graph: Graph, target: Target | None = None) -> Graph:
    """A copy after the whole default pipeline."""
    lowered = graph.copy()
    default_pipeline(target).run(lowered, PassContext(target=target, keep_reproducer=False))
    return lowered


def steps_apart(graph: Graph, lowered: Graph, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """How far the only results are apart, in quantization steps."""
    expected, got = (next(iter(evaluate(g, inputs).values())).astype(np.int64) for g in (graph, lowered))
    return np.abs(expected - got)


def operators(graph: Graph) -> list[str]:
    """All operators, those of kernels included."""
    found = []
    for node in graph.nodes:
        found += [inner.op for inner in node.attributes["body"].nodes] if node.op == "fused" else [node.op]
    return found


def float_traffic(graph: Graph) -> list[str]:
    """Floating-point tensors that one kernel writes and another reads."""
    return [repr(v) for node in graph.nodes for v in node.outputs if "float" in v.type.dtype and not v.is_output]


@pytest.mark.parametrize("target", TARGETS)
@given(case=qdq_graphs(1))
@settings(max_examples=60)
def test_one_operator_is_within_a_step(target: str, case: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, inputs = case
    apart = steps_apart(graph, lower(graph, TARGETS[target]), inputs)
    assert apart.max() <= 1
    # Where many elements are one number, and that lies halfway between two integers, all go the other way at once.
    if apart.size >= 40:
        assert apart.mean() <= 0.4


@pytest.mark.parametrize("target", TARGETS)
@given(case=qdq_graphs(4))
@settings(max_examples=40)
def test_networks_stay_close(target: str, case: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, inputs = case
    lowered = lower(graph, TARGETS[target])
    apart = steps_apart(graph, lowered, inputs)
    # A neighbour in one layer may move a later one by more than a step, where that has finer steps.
    if apart.size >= 40:
        assert apart.mean() <= 2
    again = lowered.copy()
    Pipeline("lower-qdq").run(again, PassContext(target=TARGETS[target], keep_reproducer=False))
    assert str(again) == str(lowered)


def quantized(b: Builder, x: Value, scale: float = 0.02, zero: int = 3, dtype: str = "uint8") -> Value:
    """dequantize(quantize(x))."""
    q = b.quantize(x, F(scale), np.array(zero, dtype))
    return b.dequantize(q, F(scale), np.array(zero, dtype))


def weights(b: Builder, *shape: int) -> Value:
    scale = np.linspace(0.01, 0.02, shape[0], dtype=F).reshape(-1, *(1,) * (len(shape) - 1))
    return b.dequantize(np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8), scale)


def build(make: Callable[[Builder, Value], Value], type: str = "float32[1, 8, 6, 6]") -> Graph:
    b = Builder("case")
    return b.outputs(y=make(b, b.input("x", type)))


def check(make: Callable[[Builder, Value], Value], target: Target | None = None) -> Graph:
    """The lowered graph, after a comparison."""
    graph = build(make)
    lowered = lower(graph, target)
    inputs = {"x": np.random.default_rng(1).uniform(-2, 2, (1, 8, 6, 6)).astype(F)}
    for expected, got in zip(evaluate(graph, inputs).values(), evaluate(lowered, inputs).values(), strict=True):
        # A neighbouring integer is right, but rare.
        assert np.mean(np.abs(got.astype(F) - expected.astype(F)) > 0.03) < 0.02
    return lowered


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "none"])
def test_a_residual_block_is_three_kernels_without_floats_between(name: str) -> None:
    def make(b: Builder, x: Value) -> Value:
        x = quantized(b, x)
        y = quantized(
            b,
            b.relu(b.conv(x, weights(b, 8, 8, 3, 3), np.random.default_rng(0).standard_normal(8).astype(F), **CONV)),
            zero=0,
        )
        y = quantized(b, b.conv(y, weights(b, 8, 1, 3, 3), groups=8, **CONV), 0.05)
        return quantized(b, b.relu(b.add(x, y)), 0.05, 0)

    graph = check(make, TARGETS[name])
    bodies = [[n.op for n in node.attributes["body"].nodes] for node in graph.nodes if node.op == "fused"]
    assert len([body for body in bodies if body[-1] != "layout_cast"]) == 3
    assert not float_traffic(graph)
    ops = operators(graph)
    assert ops.count("conv_integer") == 2 and "conv" not in ops and "relu" not in ops and "div" not in ops


def test_scales_of_quantizations_become_one() -> None:
    graph = check(lambda b, x: quantized(b, b.add(quantized(b, x), quantized(b, b.neg(x), 0.04))))
    bodies = [node.attributes["body"] for node in graph.nodes if node.op == "fused"]
    scales = [n.input(1) for body in bodies for n in body.nodes if n.op == "quantize"]
    assert scales and all(scale.is_constant and scale.data == 1 for scale in scales)


@pytest.mark.parametrize(
    ("zero", "low", "high", "left"),
    [(0, 0.0, None, False), (0, 0.0, 255 * 0.02, False), (3, 0.0, None, True), (0, 0.0, 2.0, True)],
)
def test_clamps_that_saturation_does_anyway_go(zero: int, low: float, high: float | None, left: bool) -> None:
    graph = check(lambda b, x: quantized(b, b.clip(quantized(b, x), minimum=low, maximum=high), 0.02, zero))
    assert ("clip" in operators(graph) or "relu" in operators(graph)) == left


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.sigmoid(x),
        lambda b, x: b.mul(x, quantized(b, b.sigmoid(x), 1 / 255, 0)),
        lambda b, x: b.mul(b.mul(x, F(0.5)), b.add(b.erf(b.mul(x, F(0.70710678))), F(1))),
    ],
)
def test_functions_of_one_tensor_are_one_exact_table(make: Callable[[Builder, Value], Value]) -> None:
    graph = build(lambda b, x: b.quantize(make(b, quantized(b, x)), F(0.01), np.array(7, np.uint8)))
    lowered = lower(graph)
    assert operators(lowered).count("lookup") == 1 and "dequantize" not in operators(lowered)
    inputs = {"x": np.random.default_rng(1).uniform(-4, 4, (1, 8, 6, 6)).astype(F)}
    np.testing.assert_array_equal(evaluate(graph, inputs)["y"], evaluate(lowered, inputs)["y"])


def test_two_tensors_are_no_table() -> None:
    graph = check(lambda b, x: quantized(b, b.sigmoid(b.add(quantized(b, x), quantized(b, b.exp(x), 0.05)))))
    assert "lookup" not in operators(graph)


def test_windows_at_the_border_average_what_they_hold() -> None:
    window = {"kernel": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1), "dilations": (1, 1)}
    graph = check(lambda b, x: quantized(b, b.average_pool(quantized(b, x), **window)))
    assert "conv_integer" in operators(graph) and not float_traffic(graph)


@pytest.mark.parametrize(("name", "dtype"), [("x86", "uint8"), ("arm", "int8")])
@pytest.mark.parametrize("given", ["uint8", "int8"])
def test_activations_have_the_targets_signedness(name: str, dtype: str, given: str) -> None:
    def make(b: Builder, x: Value) -> Value:
        x = quantized(b, x, dtype=given)
        window = {"kernel": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilations": (1, 1)}
        x = quantized(b, b.max_pool(b.concat(x, x, axis=1), **window), dtype=given)
        return quantized(b, b.conv(x, weights(b, 4, 16, 3, 3), **CONV), 0.1, dtype=given)

    graph = check(make, TARGETS[name])
    bodies = [node.attributes["body"] for node in graph.nodes if node.op == "fused"]
    found = {n.input(0).type.dtype for body in bodies for n in body.nodes if n.op == "conv_integer"}
    assert found == {dtype}


def test_integers_that_others_see_keep_their_type() -> None:
    graph = build(lambda b, x: b.quantize(b.relu(x), F(0.1), np.array(0, np.int8)))
    assert str(lower(graph, TARGETS["x86"]).outputs[0].type.dtype) == "int8"


def test_transposed_convolution() -> None:
    window = {**CONV, "strides": (2, 2), "output_padding": (1, 1)}
    graph = check(lambda b, x: quantized(b, b.conv_transpose(quantized(b, x), _transposed(b), **window), 0.05, 100))
    assert "conv_integer" in operators(graph) and not float_traffic(graph)


def _transposed(b: Builder) -> Value:
    w = np.random.default_rng(3).integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)
    return b.dequantize(w, np.linspace(0.01, 0.02, 4, dtype=F).reshape(1, 4, 1, 1))


def test_logarithmic_weights_are_looked_up_as_integers() -> None:
    def make(b: Builder, x: Value) -> Value:
        codes = np.random.default_rng(2).integers(0, 16, (16, 8, 3, 3)).astype(np.uint8)
        codes = b.cast(codes, dtype="uint4")
        w = b.log_dequantize(codes, np.linspace(0.01, 0.1, 16, dtype=F).reshape(16, 1, 1, 1), bits=4)
        return quantized(b, b.conv(quantized(b, x), w, **CONV), 0.2, 128)

    graph = check(make)
    kernel = next(n for n in graph.nodes if n.op == "fused" and n.attributes["anchor"] == "conv_integer")
    assert "lookup" in [n.op for n in kernel.attributes["body"].nodes]
    assert any(value.is_constant and value.type.dtype == "uint4" for value in kernel.present_inputs)


def test_a_float_graph_stays_as_it_is() -> None:
    graph = build(
        lambda b, x: b.relu(b.conv(x, np.random.default_rng(0).standard_normal((4, 8, 3, 3)).astype(F), **CONV))
    )
    before = str(graph)
    Pipeline("lower-qdq").run(graph, PassContext(keep_reproducer=False))
    assert str(graph) == before


def test_float_readers_leave_the_integers_alone() -> None:
    graph = check(lambda b, x: b.softmax(quantized(b, x), axis=1))
    assert operators(graph).count("dequantize") == 1


def test_a_bias_is_not_rounded_to_coarse_steps_of_the_sum() -> None:
    rng = np.random.default_rng(0)
    b = Builder("coarse")
    w = b.dequantize(rng.integers(-7, 8, (4, 8, 3, 3)).astype(np.int8), np.full((4, 1, 1, 1), 0.25, F))
    x = quantized(b, b.input("x", "float32[1, 8, 24, 24]"))
    y = b.conv(x, w, rng.normal(size=4).astype(F), **CONV)
    graph = b.outputs(y=b.quantize(y, F(0.05), np.array(128, "uint8")))
    inputs = {"x": rng.uniform(-0.06, 0.5, (1, 8, 24, 24)).astype(F)}
    # A step of the sum is a tenth of one of the result: a rounded bias would move one number in 40.
    assert steps_apart(graph, lower(graph), inputs).mean() < 2e-3


def test_a_channel_whose_weights_do_nothing_becomes_its_bias() -> None:
    def make(b: Builder, x: Value) -> Value:
        w = np.random.default_rng(0).integers(-127, 128, (2, 8, 3, 3)).astype(np.int8)
        scale = np.array([0.01, 1e-9], F).reshape(2, 1, 1, 1)
        y = b.conv(quantized(b, x), b.dequantize(w, scale), np.array([0.3, -0.7], F), **CONV)
        return quantized(b, y, 0.05, 128)

    # Whose scale is too small for the bias to be a whole number of its steps in 32 bits.
    check(make)


@pytest.mark.parametrize(("amount", "left"), [((0, 0, 1, 2, 0, 0, 0, 1), 0), ((0, 1, 1, 2, 0, 0, 0, 1), 1)])
def test_padding_becomes_the_convolutions(amount: tuple[int, ...], left: int) -> None:
    def make(b: Builder, x: Value) -> Value:
        x = quantized(b, b.pad(quantized(b, x), padding=amount))
        return quantized(b, b.conv(x, weights(b, 4, 8 + left, 3, 3), **CONV), 0.1, 128)

    assert operators(check(make)).count("pad") == left


def test_integer_convolutions_read_and_write_blocks() -> None:
    def make(b: Builder, x: Value) -> Value:
        x = quantized(b, b.conv(quantized(b, x), weights(b, 16, 8, 3, 3), **CONV), 0.1, 128)
        return quantized(b, b.conv(x, weights(b, 16, 1, 3, 3), groups=16, **CONV), 0.1, 128)

    graph = check(make, TARGETS["x86"])
    first, second = (n for n in graph.nodes if n.op == "fused" and n.attributes["anchor"] == "conv_integer")
    assert first.output.type.layout == second.output.type.layout == "NCHW8c"


def test_products_of_two_activations() -> None:
    def make(b: Builder, x: Value) -> Value:
        x = quantized(b, x)
        y = quantized(b, b.matmul(x, quantized(b, x, 0.03, 100), transpose_b=True), 0.2, 128)
        return quantized(b, b.softmax(y, axis=3), 1 / 255, 0)

    graph = check(make)
    assert "matmul_integer" in operators(graph) and not float_traffic(graph)


def test_parts_with_other_scales_are_quantized_anew() -> None:
    def make(b: Builder, x: Value) -> Value:
        return quantized(b, b.concat(quantized(b, x), quantized(b, b.neg(x), 0.01), axis=1))

    graph = check(make)
    assert not float_traffic(graph)
    bodies = [node.attributes["body"] for node in graph.nodes if node.op == "fused"]
    concats = [n for body in bodies for n in body.nodes if n.op == "concat"]
    assert [n.output.type.dtype for n in concats] == ["uint8"]


@pytest.mark.parametrize(("name", "given", "dtype"), [("x86", "int8", "uint8"), ("arm", "uint8", "int8")])
def test_quantized_inputs_are_converted_where_they_are_multiplied(name: str, given: str, dtype: str) -> None:
    b = Builder("case")
    q = b.input("q", f"{given}[1, 8, 6, 6]")
    x = b.dequantize(q, F(0.02), np.array(3, given))
    graph = b.outputs(y=quantized(b, b.conv(x, weights(b, 4, 8, 3, 3), **CONV), 0.1, 128))
    lowered = lower(graph, TARGETS[name])
    bodies = [node.attributes["body"] for node in lowered.nodes if node.op == "fused"]
    assert [n.input(0).type.dtype for body in bodies for n in body.nodes if n.op == "conv_integer"] == [dtype]
    array = np.random.default_rng(0).integers(0, 100, (1, 8, 6, 6)).astype(given)
    array.reshape(-1)[:3] = np.iinfo(given).min, np.iinfo(given).max, 0
    expected, got = (evaluate(g, {"q": array})["y"] for g in (graph, lowered))
    np.testing.assert_allclose(got, expected, atol=1e-6)
