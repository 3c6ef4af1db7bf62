"""Weights in few bits."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.passes.quantization.weight_rounding import PAIR_LIMIT, linear_codes, linear_scales, log_scales, log_values
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import lookup


def network(seed: int = 0, scale: float = 1.0) -> Graph:
    generator = np.random.default_rng(seed)
    b = Builder("network")
    x = b.input("x", "float32[2, 5, 6, 6]")
    w = (generator.standard_normal((4, 5, 3, 3)) * scale).astype(np.float32)
    w[1] = 0.0
    y = b.conv(x, w, strides=(1, 1), padding=(0, 0, 0, 0), dilations=(1, 1), groups=1)
    flat = b.reshape(y, shape=(2, 64))
    return b.outputs(y=b.matmul(flat, generator.standard_normal((64, 3)).astype(np.float32)))


def quantize(graph: Graph, text: str, target: str | None = None) -> Graph:
    context = PassContext(target=None if target is None else lookup(target), keep_reproducer=False)
    Pipeline(text).run(graph, context)
    graph.verify()
    return graph


def output_error(before: Graph, after: Graph) -> float:
    x = {"x": np.random.default_rng(9).standard_normal((2, 5, 6, 6)).astype(np.float32)}
    expected, got = evaluate(before, x)["y"], evaluate(after, x)["y"]
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ("", 0.01),
        ("{per-channel=false}", 0.02),
        ("{bits=4}", 0.2),
        ("{scheme=log2,bits=4}", 0.35),
        ("{pairs=yes}", 0.02),
    ],
)
def test_outputs_move_little(options: str, bound: float) -> None:
    before = network()
    after = quantize(before.copy(), f"quantize-weights{options}")
    assert 0.0 < output_error(before, after) < bound


@pytest.mark.parametrize("options", ["", "{bits=4}", "{scheme=log2,bits=4}"])
def test_trainable_weights_give_the_same_numbers(options: str) -> None:
    stored = quantize(network(), f"quantize-weights{options}")
    trainable = quantize(
        network(), "quantize-weights" + (options[:-1] + ",trainable=true}" if options else "{trainable=true}")
    )
    assert {node.op for node in trainable.nodes} & {"quantize", "log_quantize"}
    assert output_error(stored, trainable) == 0.0


def test_every_weight_is_within_half_a_step_of_its_channel() -> None:
    before = network()
    after = quantize(before.copy(), "quantize-weights")
    weights = {node.op: node.input(1).data for node in before.nodes if node.op in ("conv", "matmul")}
    for node in after.nodes:
        if node.op in weights:
            dequantize = node.input(1).producer
            assert dequantize is not None
            codes, scale = dequantize.input(0).data, dequantize.input(1).data
            assert codes.dtype == np.int8
            assert scale.shape == ((4, 1, 1, 1) if node.op == "conv" else (1, 3))
            error = np.abs(codes * scale - weights[node.op])
            assert (error <= 0.5001 * scale).all()
    assert not any(value.type.dtype == "float32" and value.data.size > 4 for value in after.constants)


@pytest.mark.parametrize(
    ("target", "limited"), [("x86-64-v3", True), ("x86-64-v4-vnni", False), ("cortex-a76", False), (None, False)]
)
def test_neighbours_are_limited_where_pairs_are_added_in_16_bits(target: str | None, limited: bool) -> None:
    after = quantize(network(), "quantize-weights", target)
    sums = []
    for node in after.nodes:
        if node.op in ("conv", "matmul"):
            dequantize = node.input(1).producer
            assert dequantize is not None
            codes = np.abs(dequantize.input(0).data.astype(np.int64))
            codes = np.moveaxis(codes, 1 if node.op == "conv" else 0, -1)
            codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
            sums.append(int(codes.reshape(*codes.shape[:-1], -1, 2).sum(axis=-1).max()))
    assert (max(sums) <= PAIR_LIMIT) == limited


@pytest.mark.parametrize("seed", range(20))
def test_rounding_never_exceeds_the_limit_of_pairs(seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(-1, 1, (8, 7, 3)).astype(np.float32)
    scales = linear_scales(weights, (0,), "int8", "float32", 1, False)
    codes = np.abs(linear_codes(weights, scales, "int8", 1).astype(np.int64))
    for first in range(0, 7, 2):
        assert codes[:, first : first + 2].sum(axis=1).max() <= PAIR_LIMIT
    assert (np.abs(linear_codes(weights, scales, "int8", 1) * scales - weights) <= 1.5 * scales).all()


def test_weights_of_zeros_and_of_extreme_sizes() -> None:
    for size in (0.0, 1e-45, 1e-30, 1e30):
        weights = np.full((2, 3), size, np.float32)
        weights[1] = 0.0
        scales = linear_scales(weights, (0,), "int8", "float32", 1, False)
        assert np.isfinite(scales).all() and (scales >= np.finfo(np.float32).tiny).all()
        codes = linear_codes(weights, scales, "int8", 1)
        assert not codes[1].any()
        if size > 1e-38:
            np.testing.assert_allclose(codes[0] * scales[0].astype(np.float64), weights[0], rtol=0.01)
        assert np.isfinite(log_scales(weights, (0,), 4, "float32")).all()


def test_powers_of_two_are_exact_in_logarithmic_codes() -> None:
    weights = np.array([[0.0, 0.25, -0.5, 1.0, 2.0, -4.0, 8.0]], np.float32)
    scales = log_scales(weights, (0,), 4, "float32")
    np.testing.assert_array_equal(log_values(weights, scales, 4), weights)


def test_a_bias_fits_the_integer_sums() -> None:
    b = Builder("bias")
    x = b.input("x", "float32[1, 2, 4, 4]")
    w = np.full((2, 2, 1, 1), 1e-20, np.float32)
    y = b.conv(x, w, np.array([3.0, 0.0], np.float32), strides=(1, 1), padding=(0,) * 4, dilations=(1, 1), groups=1)
    graph = b.outputs(y=b.relu(b.conv(b.relu(y), w, strides=(1, 1), padding=(0,) * 4, dilations=(1, 1), groups=1)))
    samples = [{"x": np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)}]
    Pipeline("insert-qdq,quantize-weights").run(graph, PassContext(calibration=samples))
    conv = next(node for node in graph.nodes if node.op == "conv")
    data, weights = conv.input(0).producer, conv.input(1).producer
    assert data is not None and weights is not None
    unit = float(data.input(1).data) * weights.input(1).data.reshape(-1).astype(np.float64)
    assert (np.abs(conv.input(2).data) / unit < 2**31).all()


def test_skipped_and_float_activations() -> None:
    ops = [node.op for node in quantize(network(), "quantize-weights{only-integer=true}").nodes]
    assert "dequantize" not in ops
    after = quantize(network(), "quantize-weights{skip=[matmul]}")
    assert [node.input(1).is_constant for node in after.nodes if node.op in ("conv", "matmul")] == [False, True]
    with pytest.raises(EdgeIRError, match="nothing to be left in float"):
        quantize(network(), "quantize-weights{skip=[nowhere]}")


@pytest.mark.parametrize("options", ["{bits=3}", "{scheme=log2,bits=9}"])
def test_numbers_of_bits(options: str) -> None:
    with pytest.raises(EdgeIRError, match="number of bits"):
        quantize(network(), f"quantize-weights{options}")


def test_weights_that_are_not_finite() -> None:
    with pytest.raises(EdgeIRError, match="infinite or NaN"):
        quantize(network(scale=np.inf), "quantize-weights")
