"""Quantization as one pass, with a limit on what it may cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.passes.quantization.calibration import Arrays, interpret
from edgeir.passes.quantization.quantize import METRIC
from edgeir.passes.quantization.sensitivity import FLOAT, SwitchedNetwork, rank_layers
from edgeir.passmanager import PassContext, Pipeline, parse_pass

WINDOW = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}


def _network(layers: int = 4, spoiled: int | None = 2) -> Graph:
    """A chain of convolutions, one of which has channels of very different size, and a classifier."""
    rng = np.random.default_rng(5)
    b = Builder("network")
    x = b.input("x", "float32[1, 6, 8, 8]")
    for index in range(layers):
        w = rng.standard_normal((6, 6, 3, 3)).astype(np.float32) / 7
        if index == spoiled:
            # One huge weight in every channel, which meets a channel that is small: 4 bits lose all the others.
            w[:, 0, 1, 1] *= 200
        x = b.relu(b.conv(x, w, rng.standard_normal(6).astype(np.float32) / 9, **WINDOW))
        if spoiled is not None and index == spoiled - 1:
            x = b.mul(x, np.array([0.005, 1, 1, 1, 1, 1], np.float32).reshape(1, 6, 1, 1))
    flat = b.reshape(b.reduce_mean(x, axes=(2, 3)), shape=(1, 6))
    return b.outputs(y=b.matmul(flat, rng.standard_normal((6, 5)).astype(np.float32)))


SAMPLES: list[dict[str, np.ndarray]] = [
    {"x": np.random.default_rng(seed).standard_normal((1, 6, 8, 8)).astype(np.float32)} for seed in range(12)
]


def _noise(original: Graph) -> Callable[[Callable[[Arrays], Arrays]], float]:
    """Points: the signal-to-noise ratio against the float network in decibels, at most 60."""
    references = [evaluate(original, sample)["y"].astype(np.float64) for sample in SAMPLES]

    def metric(run: Callable[[Arrays], Arrays]) -> float:
        noise = sum(float(((np.asarray(run(s)["y"]) - r) ** 2).sum()) for s, r in zip(SAMPLES, references, strict=True))
        signal = sum(float((r**2).sum()) for r in references)
        return 60.0 if noise <= signal * 1e-6 else 10 * np.log10(signal / noise)

    return metric


def _run(graph: Graph, text: str, metric: bool = False) -> Graph:
    changed = graph.copy()
    services = {METRIC: _noise(graph)} if metric else {}
    Pipeline(text).run(changed, PassContext(calibration=SAMPLES, services=services, keep_reproducer=False))
    changed.verify()
    return changed


def _weight_bits(graph: Graph) -> list[str]:
    found = []
    for node in graph.nodes:
        if node.op in ("conv", "matmul"):
            decoder = node.input(1).producer
            found.append("float" if decoder is None else decoder.input(0).type.dtype)
    return found


def test_all_layers_without_a_limit() -> None:
    graph = _network()
    assert _weight_bits(_run(graph, "quantize")) == ["int8"] * 5
    assert _weight_bits(_run(graph, "quantize{bits=4,correct-bias=true,equalize=true}")) == ["int4"] * 5
    assert _weight_bits(_run(graph, "quantize{bits=4,scheme=log2}")) == ["uint4"] * 5


def test_the_worst_layer_returns_to_eight_bits() -> None:
    graph = _network()
    # The multiplication stays a node of its own, so that the convolution after it reads the small channel.
    before = _noise(graph)(lambda inputs: evaluate(_run(graph, "quantize{bits=4}"), inputs))
    limited = _run(graph, f"quantize{{bits=4,max-drop={60 - before - 3}}}", metric=True)
    after = _noise(graph)(lambda inputs: evaluate(limited, inputs))
    assert after >= before + 2.5
    bits = _weight_bits(limited)
    assert bits[2] == "int8"
    assert bits.count("int4") >= 2


@pytest.mark.parametrize("option", ["correct-bias", "trainable"])
def test_layers_return_where_float_weights_stay_for_a_while(option: str) -> None:
    graph = _network()
    before = _noise(graph)(lambda inputs: evaluate(_run(graph, "quantize{bits=4}"), inputs))
    limited = _run(graph, f"quantize{{bits=4,max-drop={60 - before - 3},{option}=true}}", metric=True)
    assert _noise(graph)(lambda inputs: evaluate(limited, inputs)) >= before + 2.5


def test_layers_return_to_float_when_eight_bits_are_not_enough() -> None:
    graph = _network()
    limited = _run(graph, "quantize{max-drop=0}", metric=True)
    assert set(_weight_bits(limited)) == {"float"}
    assert all(node.op != "quantize" for node in limited.nodes)


def test_agreement_is_the_metric_by_default() -> None:
    graph = _network(spoiled=None)
    assert _weight_bits(_run(graph, "quantize{max-drop=100}")) == ["int8"] * 5


def test_switches_give_the_quantized_network() -> None:
    graph = _network(spoiled=None)
    quantized = _run(graph, "quantize")
    network = SwitchedNetwork(graph, {8: quantized}, "portable", (), interpret)
    everything = network.run(dict.fromkeys(network.layers, 8))
    nothing = network.run(dict.fromkeys(network.layers, FLOAT))
    for sample in SAMPLES[:3]:
        np.testing.assert_array_equal(everything(sample)["y"], evaluate(quantized, sample)["y"])
        np.testing.assert_array_equal(nothing(sample)["y"], evaluate(graph, sample)["y"])


def test_the_spoiled_layer_is_the_most_harmful() -> None:
    graph = _network()
    network = SwitchedNetwork(graph, {4: _run(graph, "quantize{bits=4,compensate=no}")}, "portable", (), interpret)
    references = [evaluate(graph, sample) for sample in SAMPLES]
    harms = rank_layers(network, 4, SAMPLES, references)
    assert harms[0].layer == network.layers[2]
    assert harms[0].noise > 3 * harms[1].noise


@pytest.mark.parametrize("drop", ["-1", "nan", "inf"])
def test_a_limit_that_is_none(drop: str) -> None:
    with pytest.raises(EdgeIRError, match="not a drop"):
        _run(_network(), f"quantize{{max-drop={drop}}}")
    assert str(parse_pass("quantize{max-drop=none}")) == "quantize"


def test_no_data() -> None:
    with pytest.raises(EdgeIRError, match="no calibration data"):
        Pipeline("quantize").run(_network(), PassContext(keep_reproducer=False))


def test_switches_give_corrected_biases_with_their_weights_only() -> None:
    graph = _network(spoiled=None)
    variants = {bits: _run(graph, f"quantize{{bits={bits},compensate=yes}}") for bits in (4, 8)}
    network = SwitchedNetwork(graph, variants, "portable", (), interpret)
    for bits, expected in (*variants.items(), (FLOAT, graph)):
        run = network.run(dict.fromkeys(network.layers, bits))
        for sample in SAMPLES[:3]:
            y = evaluate(expected, sample)["y"]
            # Sums in another order may round an activation to the next number.
            np.testing.assert_allclose(run(sample)["y"], y, atol=0.02 * float(np.abs(y).max()))
