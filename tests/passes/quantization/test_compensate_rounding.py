"""Weights rounded jointly: exact codes, a smaller error than plain rounding, and cases with nothing to go by."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.passes.quantization.layer_moments import windows
from edgeir.passes.quantization.successive_rounding import SuccessiveRounding
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import lookup

Samples = list[dict[str, np.ndarray]]
WINDOW = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}
SCHEMES = ["bits=8", "bits=4", "bits=4,scheme=log2", "bits=4,per-channel=false", "bits=4,scheme=log2,per-channel=false"]


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _network(shared: bool = False) -> Graph:
    """A convolution, one of two groups, a depthwise one with a stride, and a product, with ReLUs and biases."""
    rng = np.random.default_rng(3)
    b = Builder("network")
    x = b.input("x", "float32[2, 6, 8, 8]")
    w = b.constant(_normal(rng, 6, 6, 3, 3))
    x = b.relu(b.conv(x, w, _normal(rng, 6), **WINDOW))
    if shared:
        x = b.relu(b.conv(x, w, _normal(rng, 6), **WINDOW))
    x = b.relu(b.conv(x, _normal(rng, 6, 3, 3, 3), **WINDOW, groups=2))
    x = b.relu(b.conv(x, _normal(rng, 6, 1, 3, 3), _normal(rng, 6), **(WINDOW | {"strides": (2, 2)}), groups=6))
    flat = b.reshape(x, shape=(2, 96))
    return b.outputs(y=b.matmul(flat, _normal(rng, 96, 5)))


def _samples(count: int = 12, seed: int = 0) -> Samples:
    """Correlated channels, which leave room for errors to make up for each other."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).standard_normal((6, 6)) / 2 + 1
    drawn = [rng.standard_normal((2, 6, 8, 8)) for _ in range(count)]
    return [{"x": np.einsum("oc,nchw->nohw", mix, x).astype(np.float32)} for x in drawn]


def _run(graph: Graph, text: str, samples: Samples, target: str | None = None) -> Graph:
    changed = graph.copy()
    context = PassContext(target=None if target is None else lookup(target), calibration=samples, keep_reproducer=False)
    Pipeline(text).run(changed, context)
    changed.verify()
    return changed


def _noise(original: Graph, graph: Graph, samples: Samples) -> float:
    return sum(float(((evaluate(graph, s)["y"] - evaluate(original, s)["y"]) ** 2).sum()) for s in samples)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_outputs_of_other_samples_are_nearer(scheme: str) -> None:
    graph, others = _network(), _samples(seed=1)
    plain = _run(graph, f"quantize-weights{{{scheme}}}", _samples())
    better = _run(graph, f"quantize-weights{{{scheme},trainable=true}},compensate-rounding,fold-constants", _samples())
    ratio = _noise(graph, better, others) / _noise(graph, plain, others)
    # One base for all channels leaves powers of 2 little to choose from.
    assert ratio < (0.95 if scheme.endswith("log2,per-channel=false") else 0.8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_what_their_codes_stand_for(scheme: str) -> None:
    graph = _run(_network(), f"quantize-weights{{{scheme},trainable=true}},compensate-rounding", _samples())
    decoders = [node.input(1).producer for node in graph.nodes if node.op in ("conv", "matmul")]
    assert len(decoders) == 4
    for decoder in decoders:
        assert decoder is not None
        encoder = decoder.input(0).producer
        assert encoder is not None
        codes = encoder.definition.evaluate([value.data for value in encoder.present_inputs], encoder.attributes)
        rest = [value.data for value in decoder.present_inputs[1:]]
        values = decoder.definition.evaluate([codes[0], *rest], decoder.attributes)[0]
        np.testing.assert_array_equal(values, encoder.input(0).data)


def test_it_is_deterministic_and_on_below_eight_bits() -> None:
    once, again = (_run(_network(), "quantize{bits=4}", _samples()) for _ in range(2))
    assert str(once) == str(again)
    assert str(once) != str(_run(_network(), "quantize{bits=4,compensate=no}", _samples()))
    eight = _run(_network(), "quantize", _samples())
    assert str(eight) == str(_run(_network(), "quantize{compensate=no}", _samples()))
    assert all(
        node.input(0).is_constant for node in once.nodes if node.op == "dequantize" and node.input(0).is_constant
    )


def test_shared_weights_stay_shared() -> None:
    graph = _network(shared=True)
    plain = _run(graph, "quantize-weights{bits=4}", _samples())
    better = _run(graph, "quantize-weights{bits=4,trainable=true},compensate-rounding,fold-constants", _samples())
    assert sum(node.op == "dequantize" for node in better.nodes) == 4
    assert _noise(graph, better, _samples(seed=1)) < 0.9 * _noise(graph, plain, _samples(seed=1))


@pytest.mark.parametrize("samples", ["zeros", "one", "constant"])
@pytest.mark.parametrize("scheme", ["bits=4", "bits=4,scheme=log2"])
def test_singular_moments(samples: str, scheme: str) -> None:
    fill = {"zeros": 0.0, "constant": 2.0}.get(samples)
    given = _samples(1) if fill is None else [{"x": np.full((2, 6, 8, 8), fill, np.float32)}]
    graph = _network()
    found = _run(graph, f"quantize-weights{{{scheme},trainable=true}},compensate-rounding,fold-constants", given)
    plain = _run(graph, f"quantize-weights{{{scheme}}}", given)
    assert all(np.isfinite(evaluate(found, sample)["y"]).all() for sample in _samples())
    assert _noise(graph, found, given) <= _noise(graph, plain, given)


def test_pairs_fit_the_sums_of_a_target_without_vnni() -> None:
    graph = _run(_network(), "quantize{compensate=yes}", _samples(), target="x86-64-v3")
    for node in graph.nodes:
        if node.op not in ("conv", "matmul"):
            continue
        decoder = node.input(1).producer
        assert decoder is not None
        codes = np.abs(decoder.input(0).data.astype(int))
        rows = codes.T if node.op == "matmul" else np.moveaxis(codes, 1, -1)
        even = rows.shape[-1] // 2 * 2
        assert rows.max() > 64
        assert (rows[..., 0:even:2] + rows[..., 1:even:2] <= 128).all()


def test_infinite_samples_and_bad_options_are_refused() -> None:
    bad = _samples(1)
    bad[0]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(EdgeIRError, match="infinite or NaN"):
        _run(_network(), "quantize-weights{trainable=true},compensate-rounding", bad)
    with pytest.raises(EdgeIRError, match="damping"):
        _run(_network(), "quantize-weights{trainable=true},compensate-rounding{damping=0}", _samples(1))


def test_windows_times_weights_are_the_convolution() -> None:
    graph = _network()
    sample = _samples(1)[0]["x"]
    node = next(node for node in graph.nodes if node.op == "conv" and node.attributes["groups"] == 1)
    rows = windows(node, sample, 10**6, np.random.default_rng(0))
    weights, bias = node.input(1).data.astype(np.float64), node.input(2).data
    y = (weights.reshape(6, -1) @ rows[0]).reshape(6, 2, 8, 8).transpose(1, 0, 2, 3) + bias.reshape(-1, 1, 1)
    expected = node.definition.evaluate([sample, node.input(1).data, bias], node.attributes)[0]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_exhaustive_search_is_not_far_better() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 4)) @ rng.standard_normal((4, 50))
    hessian, grid = (x @ x.T + 0.1 * np.eye(4))[None], np.arange(-2.0, 3.0)
    weights, scales = rng.uniform(-2, 2, (1, 6, 4)), np.ones((1, 6, 1))
    solver = SuccessiveRounding(hessian, grid)
    codes = solver.improve(solver.codes(weights, scales), weights, scales, 4)
    every = np.stack(np.meshgrid(*[grid] * 4), axis=-1).reshape(-1, 1, 4)
    wide = weights.transpose(1, 0, 2)
    best = np.min([solver.error(every, w, scales[:, :1]).reshape(-1) for w in wide], axis=1)
    plain = solver.error(solver.nearest(weights, scales), weights, scales).reshape(-1)
    found = solver.error(codes, weights, scales).reshape(-1)
    assert (found >= best - 1e-9).all()
    assert found.sum() < 0.5 * plain.sum()
    assert found.sum() < 2.0 * best.sum()
