"""Where activations are rounded."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Value
from edgeir.ir.evaluate import evaluate
from edgeir.passes.quantization.placement import plan
from edgeir.passes.quantization.saturation import caring_range
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import lookup

CONV = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
POOL = {"kernel": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilations": (1, 1)}
SHAPE = (1, 4, 8, 8)


def weights(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def residual() -> Graph:
    """conv, clip, conv, residual addition, pooling, a product, softmax."""
    b = Builder("residual")
    x = b.input("x", "float32[1, 4, 8, 8]")
    first = b.clip(b.conv(x, weights(0, 4, 4, 3, 3), **CONV), minimum=0.0, maximum=6.0)
    second = b.conv(first, weights(1, 4, 4, 3, 3), weights(2, 4), **CONV)
    total = b.add(second, first)
    pooled = b.max_pool(total, **POOL, ceil_mode=False)
    flat = b.reshape(pooled, shape=(1, 64))
    scores = b.add(b.matmul(flat, weights(3, 64, 5)), weights(4, 5))
    return b.outputs(y=b.softmax(scores, axis=1))


def hard_swish(b: Builder, x: Value) -> Value:
    clipped = b.clip(b.add(x, np.float32(3)), minimum=0.0, maximum=6.0)
    return b.div(b.mul(x, clipped), np.float32(6))


def samples(count: int = 3, seed: int = 0) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [{"x": generator.standard_normal(SHAPE).astype(np.float32)} for _ in range(count)]


def insert(graph: Graph, options: str = "", target: str | None = None, data: list | None = None) -> Graph:
    context = PassContext(
        target=None if target is None else lookup(target),
        calibration=samples() if data is None else data,
        keep_reproducer=False,
    )
    Pipeline(f"insert-qdq{options}").run(graph, context)
    graph.verify()
    return graph


def quantized(graph: Graph) -> dict[str, tuple[float, int, str]]:
    """Name of a quantized value → scale, zero point, element type."""
    return {
        node.input(0).name: (float(node.input(1).data), int(node.input(2).data), node.output.type.dtype)
        for node in graph.nodes
        if node.op == "quantize"
    }


def test_portable_rounds_around_every_operator() -> None:
    found = quantized(insert(residual()))
    assert set(found) == {"x", "clip", "conv_1", "add", "max_pool", "reshape"}


def test_fused_rounds_between_kernels() -> None:
    found = quantized(insert(residual(), "{placement=fused}"))
    assert set(found) == {"x", "clip", "add", "max_pool", "reshape"}


@pytest.mark.parametrize("placement", ["portable", "fused"])
def test_what_only_moves_keeps_its_parameters(placement: str) -> None:
    found = quantized(insert(residual(), f"{{placement={placement}}}"))
    assert found["add"] == found["max_pool"] == found["reshape"]
    assert found["clip"][:2] != found["add"][:2]


@pytest.mark.parametrize("placement", ["portable", "fused"])
def test_every_reader_sees_the_rounded_value(placement: str) -> None:
    graph = insert(residual(), f"{{placement={placement}}}")
    for node in graph.nodes:
        if node.op == "quantize":
            assert [user.op for user in node.input(0).users] == ["quantize"]
            assert [user.op for user in node.output.users] == ["dequantize"]
    softmax = next(node for node in graph.nodes if node.op == "softmax")
    producer = softmax.input(0).producer
    assert producer is not None and producer.op == "add"
    assert graph.outputs[0].producer is softmax


@pytest.mark.parametrize("observer", ["min-max", "moving-average", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("symmetric", ["true", "false"])
@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_outputs_move_little(observer: str, symmetric: str, activations: str) -> None:
    options = f"{{observer={observer},symmetric={symmetric},activations={activations}}}"
    graph = insert(residual(), options)
    for sample in samples(2, seed=5):
        np.testing.assert_allclose(evaluate(graph, sample)["y"], evaluate(residual(), sample)["y"], atol=0.15)


def test_min_max_ranges_are_those_of_the_samples() -> None:
    found = quantized(insert(residual(), "{observer=min-max}"))
    seen: dict[str, list[np.ndarray]] = {}
    for sample in samples():
        evaluate(residual(), sample, lambda value, array: seen.setdefault(value.name, []).append(array))
    for name in ("clip", "conv_1", "add"):
        low, high = min(0.0, *(a.min() for a in seen[name])), max(a.max() for a in seen[name])
        assert found[name][0] == pytest.approx((high - low) / 255, rel=1e-6)


@pytest.mark.parametrize(
    ("target", "dtype"), [("x86-64-v3", "uint8"), ("cortex-a76", "int8"), ("armv7-neon", "int8"), (None, "uint8")]
)
def test_the_type_is_what_the_target_multiplies(target: str | None, dtype: str) -> None:
    assert {row[2] for row in quantized(insert(residual(), target=target)).values()} == {dtype}


def test_four_bits_and_powers_of_two() -> None:
    assert {row[2] for row in quantized(insert(residual(), "{bits=4}")).values()} == {"uint4"}
    ops = Counter(node.op for node in insert(residual(), "{scheme=log2}").nodes)
    assert ops["log_quantize"] == ops["log_dequantize"] == 6 and not ops["quantize"]
    with pytest.raises(EdgeIRError, match="8 or 4 bits"):
        insert(residual(), "{bits=5}")


@pytest.mark.parametrize("placement", ["portable", "fused"])
def test_skipped_operators_and_layers_stay_float(placement: str) -> None:
    graph = insert(residual(), f"{{placement={placement},skip=[matmul,conv_1]}}")
    assert set(quantized(graph)) == {"x"}
    assert not quantized(insert(residual(), f"{{placement={placement},skip=[conv,matmul]}}"))
    with pytest.raises(EdgeIRError, match="nothing to be left in float"):
        insert(residual(), "{skip=[conv_9]}")


def test_concatenated_values_share_their_parameters() -> None:
    b = Builder("concat")
    x = b.input("x", "float32[1, 4, 8, 8]")
    left = b.relu(b.conv(x, weights(0, 4, 4, 3, 3), **CONV))
    right = b.relu(b.conv(x, 3 * weights(1, 4, 4, 3, 3), **CONV))
    graph = b.outputs(y=b.conv(b.concat(left, right, axis=1), weights(2, 2, 8, 3, 3), **CONV))
    found = quantized(insert(graph))
    assert found["relu"] == found["relu_1"] == found["concat"] and len(found) == 4


def test_masks_and_what_softmax_reads_stay_float() -> None:
    b = Builder("attention")
    q, k, v = (b.input(name, "float32[1, 2, 6, 4]") for name in "qkv")
    mask = b.input("mask", "float32[1, 1, 6, 6]")
    scores = b.add(b.mul(b.matmul(q, k, transpose_b=True), np.float32(0.5)), mask)
    graph = b.outputs(y=b.matmul(b.softmax(scores, axis=3), v))
    for placement in ("portable", "fused"):
        assert {value.name for value in plan(graph, placement).values} == {"q", "k", "v", "softmax"}


def test_an_output_that_is_read_inside_is_returned_in_float() -> None:
    b = Builder("two")
    x = b.input("x", "float32[1, 4, 8, 8]")
    first = b.relu(b.conv(x, weights(0, 4, 4, 3, 3), **CONV))
    graph = insert(b.outputs(a=first, b=b.conv(first, weights(1, 4, 4, 3, 3), **CONV)))
    producer = graph.outputs[0].producer
    assert producer is not None and producer.op == "relu"
    assert "relu" in quantized(graph)


def test_what_hard_swish_ignores_is_not_represented() -> None:
    b = Builder("hard_swish")
    x = b.input("x", "float32[1, 4, 8, 8]")
    y = b.conv(x, 5 * weights(0, 4, 4, 3, 3), **CONV)
    graph = b.outputs(y=b.conv(hard_swish(b, y), weights(1, 4, 4, 3, 3), **CONV))
    assert caring_range(graph.value("conv")) == (-3.0, np.inf)
    scale, zero, _ = quantized(insert(graph, "{observer=min-max}"))["conv"]
    assert -zero * scale == pytest.approx(-3.0, abs=scale)


def test_caring_ranges() -> None:
    b = Builder("ranges")
    x = b.input("x", "float32[1, 4, 8, 8]")
    a, c, d = (b.neg(x) for _ in range(3))
    sigmoid = b.clip(b.add(b.mul(a, np.float32(0.2)), np.float32(0.5)), minimum=0.0, maximum=1.0)
    graph = b.outputs(y=b.mul(sigmoid, x), z=b.relu(c), t=b.add(hard_swish(b, d), d))
    assert caring_range(graph.value("neg")) == (-2.5, 2.5)
    assert caring_range(graph.value("neg_1")) == (0.0, np.inf)
    assert caring_range(graph.value("neg_2")) == (-np.inf, np.inf)
    assert caring_range(graph.value("x")) == (-np.inf, np.inf)


def test_missing_empty_and_infinite_samples_are_named() -> None:
    with pytest.raises(EdgeIRError, match="no calibration data"):
        insert(residual(), data=[])
    good = samples()
    with pytest.raises(EdgeIRError, match=r"sample 1, input 'x'"):
        insert(residual(), data=[good[0], {"y": good[1]["x"]}])
    bad = good[1]["x"].copy()
    bad[0, 1, 2, 3] = np.nan
    with pytest.raises(EdgeIRError, match=r"(?s)infinite or NaN.*sample 2, input 'x'.*1 of 256"):
        insert(residual(), data=[*good[:2], {"x": bad}])
    b = Builder("square")
    x = b.input("x", "float32[1, 4, 8, 8]")
    square = b.outputs(y=b.conv(b.mul(x, x), weights(0, 4, 4, 3, 3), **CONV))
    with pytest.raises(EdgeIRError, match=r"(?s)infinite or NaN.*sample 1, value %mul"):
        insert(square, data=[good[0], {"x": np.full(SHAPE, 1e30, np.float32)}])


def test_tiny_huge_and_zero_samples_give_finite_graphs() -> None:
    for size in (0.0, 1e-30, 1e30):
        graph = insert(residual(), data=[{"x": sample["x"] * np.float32(size)} for sample in samples(1)])
        for scale, _, _ in quantized(graph).values():
            assert np.isfinite(scale) and scale >= np.finfo(np.float32).tiny
        assert np.isfinite(evaluate(graph, samples(1)[0])["y"]).all()


def test_the_execute_service_is_used() -> None:
    calls = []

    def execute(graph: Graph):
        calls.append(graph)
        return lambda inputs: evaluate(graph, inputs)

    context = PassContext(calibration=samples(), services={"execute": execute}, keep_reproducer=False)
    graph = residual()
    Pipeline("insert-qdq").run(graph, context)
    assert len(calls) == 1
    assert str(graph) == str(insert(residual()))


def test_a_fused_graph_is_refused() -> None:
    graph = residual()
    Pipeline("fuse-operators").run(graph)
    with pytest.raises(EdgeIRError, match="fused graph"):
        insert(graph)
