"""Channels between layers made equally large; the network computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.ir import Builder, Graph, Value
from edgeir.ir.evaluate import evaluate
from edgeir.passes.quantization.equalize_cross_layer import EqualizeCrossLayer
from edgeir.passmanager import PassContext

RNG = np.random.default_rng(3)
WINDOW = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}


def _weights(*shape: int) -> np.ndarray:
    """Weights whose output channels differ by orders of magnitude."""
    spread = np.exp2(RNG.uniform(-5, 5, shape[0])).reshape(-1, *(1,) * (len(shape) - 1))
    return (RNG.standard_normal(shape) * spread).astype(np.float32)


def _activated(b: Builder, x: Value, kind: str) -> Value:
    if kind == "clip":
        return b.clip(x, minimum=0.0, maximum=6.0)
    if kind == "leaky_relu":
        return b.leaky_relu(x, alpha=0.1)
    return b.relu(x) if kind == "relu" else x


def _inverted_residual(kind: str) -> Graph:
    b = Builder()
    x = b.input("x", "float32[1, 4, 7, 7]")
    wide = _activated(b, b.conv(x, _weights(12, 4, 3, 3), _weights(12), **WINDOW), kind)
    deep = _activated(b, b.conv(wide, _weights(12, 1, 3, 3), _weights(12), groups=12, **WINDOW), kind)
    return b.outputs(y=b.add(x, b.conv(deep, _weights(4, 12, 3, 3), **WINDOW)))


def _run(graph: Graph, **options: object) -> Graph:
    changed = graph.copy()
    EqualizeCrossLayer(**options).run(changed, PassContext())  # type: ignore[arg-type]
    changed.verify()
    return changed


def _largest(graph: Graph, layer: int, axis: int) -> np.ndarray:
    nodes = [node for node in graph.nodes if node.op in ("conv", "matmul")]
    weights = nodes[layer].input(1).data
    return np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis))


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "none", "clip"])
def test_equal_channels_and_the_same_function(kind: str) -> None:
    graph = _inverted_residual(kind)
    changed = _run(graph)
    x = {"x": RNG.standard_normal((1, 4, 7, 7)).astype(np.float32) * 5}
    expected, got = evaluate(graph, x)["y"], evaluate(changed, x)["y"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    for first in (0, 1):
        second_axis = 0 if first == 0 else 1
        np.testing.assert_allclose(_largest(changed, first, 0), _largest(changed, first + 1, second_axis), rtol=2e-2)
    spread = _largest(graph, 0, 0).max() / _largest(graph, 0, 0).min()
    assert _largest(changed, 0, 0).max() / _largest(changed, 0, 0).min() < spread / 4


@pytest.mark.parametrize("transposed", [False, True])
def test_products(transposed: bool) -> None:
    b = Builder()
    x = b.input("x", "float32[3, 5]")
    hidden = b.relu(b.matmul(x, _weights(5, 6)))
    last = _weights(2, 6) if transposed else _weights(6, 2)
    graph = b.outputs(y=b.matmul(hidden, last, transpose_b=transposed))
    changed = _run(graph)
    feed = {"x": RNG.standard_normal((3, 5)).astype(np.float32)}
    expected = evaluate(graph, feed)["y"]
    np.testing.assert_allclose(evaluate(changed, feed)["y"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(_largest(changed, 0, 1), _largest(changed, 1, 1 if transposed else 0), rtol=2e-2)


def test_what_cannot_be_equalized_stays() -> None:
    b = Builder()
    x = b.input("x", "float32[1, 4, 7, 7]")
    shared = b.relu(b.conv(x, _weights(4, 4, 3, 3), **WINDOW))
    curved = b.sigmoid(b.conv(shared, _weights(4, 4, 3, 3), **WINDOW))
    y = b.add(shared, b.conv(curved, _weights(4, 4, 3, 3), **WINDOW))
    graph = b.outputs(y=y)
    assert str(_run(graph)) == str(graph)
    clipped = _inverted_residual("clip")
    first = [node for node in _run(clipped, clip=False).nodes if node.op == "clip"]
    assert len(first) == 2


def test_zero_channels_stay_zero() -> None:
    graph = _inverted_residual("relu")
    node = next(node for node in graph.nodes if node.op == "conv")
    weights = node.input(1).data.copy()
    weights[3] = 0
    graph.set_input(node, 1, graph.add_constant(weights, "w"))
    changed = _run(graph)
    for node in changed.nodes:
        if node.op == "conv":
            assert np.isfinite(node.input(1).data).all()
    first = next(node for node in changed.nodes if node.op == "conv")
    assert not first.input(1).data[3].any()
