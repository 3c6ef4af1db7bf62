"""Graphs with a fixed batch become graphs with an open one that compute the same."""

from __future__ import annotations

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.training.open_batch import open_batch

RNG = np.random.default_rng(0)


def network(batch: int) -> Graph:
    b = Builder("fixed")
    x = b.input("x", f"float32[{batch}, 2, 4, 4]")
    weight = RNG.normal(size=(3, 2, 3, 3)).astype(np.float32)
    y = b.relu(b.conv(x, weight, strides=(1, 1), padding=(1, 1, 1, 1), dilations=(1, 1)))
    y = b.slice(y, starts=(0, 0, 1, 0), sizes=(batch, 3, 2, 4), steps=(1, 1, 1, 1))
    flat = b.reshape(y, shape=(batch, 24))
    return b.outputs(y=b.matmul(flat, RNG.normal(size=(24, 5)).astype(np.float32)))


@pytest.mark.parametrize("batch", [1, 4])
def test_each_sample_gives_what_it_gave(batch: int) -> None:
    graph = network(batch)
    opened = open_batch(graph)
    assert [str(value.type) for value in opened.inputs] == ["float32[N, 2, 4, 4]"]
    opened.verify()
    images = RNG.normal(size=(12, 2, 4, 4)).astype(np.float32)
    parts = [evaluate(graph, {"x": images[i : i + batch]})["y"] for i in range(0, 12, batch)]
    np.testing.assert_allclose(evaluate(opened, {"x": images})["y"], np.concatenate(parts), rtol=1e-5)
    assert open_batch(opened) is opened


def test_an_operator_that_depends_on_the_batch_is_named() -> None:
    b = Builder("mixed")
    x = b.input("x", "float32[2, 6]")
    graph = b.outputs(y=b.reshape(x, shape=(3, 4), name="mixes samples"))
    with pytest.raises(EdgeIRError, match="batch cannot be left open"):
        open_batch(graph)
    b = Builder("summed")
    x = b.input("x", "float32[2, 6]")
    with pytest.raises(EdgeIRError, match="outputs without a batch"):
        open_batch(b.outputs(y=b.reduce_sum(x, axes=(0,), keepdims=False)))
