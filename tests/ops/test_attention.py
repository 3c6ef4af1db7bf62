"""The chain of operators that is an attention, and what only looks like one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Builder, Graph, Value
from edgeir.ops.attention import AttentionChain, find_attention
from tests.lowering.attention_graphs import LAYOUTS, MASKS, AttentionCase


def found(graph: Graph) -> AttentionChain | None:
    (softmax,) = [node for node in graph.nodes if node.op == "softmax"]
    return find_attention(softmax)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_the_chain_is_found(mask: str, scale: bool, guard: bool, layout: str) -> None:
    chain = found(AttentionCase(mask=mask, scale=scale, guard=guard, layout=layout).graph())
    assert chain is not None
    logits = ["div"] * scale + {"none": [], "choice": ["where"]}.get(mask, ["add"])
    assert [node.op for node in chain.logits] == logits
    guards = ["is_nan", "where"] * guard
    assert [node.op for node in chain.nodes] == ["matmul", *logits, "softmax", *guards, "matmul"]


def test_a_bias_that_is_a_product_itself_may_stand_for_the_scores() -> None:
    b = Builder("case")
    q, k, v, a, c = (b.input(name, "float32[2, 8, 8]") for name in "qkvac")
    graph = b.outputs(y=b.matmul(b.softmax(b.add(b.matmul(q, k), b.matmul(a, c)), axis=2), v))
    chain = found(graph)
    assert chain is not None and chain.scores in {node for node in graph.nodes if node.op == "matmul"}
    assert chain.scores is not chain.product


NOT = Callable[[Builder, Value, Value], dict[str, Value]]
"""Builder, scores (2, 8, 8), v (2, 8, 8) → outputs."""


def _guarded(b: Builder, p: Value, *, number: float = 0.0, swapped: bool = False) -> Value:
    zero = np.array(number, np.float32)
    test = b.is_nan(p)
    return b.where(test, p, zero) if swapped else b.where(test, zero, p)


CASES: dict[str, NOT] = {
    "another axis": lambda b, s, v: {"y": b.matmul(b.softmax(s, axis=1), v)},
    "scores are used elsewhere": lambda b, s, v: {"y": b.matmul(b.softmax(s, axis=2), v), "z": b.exp(s)},
    "scores are an output": lambda b, s, v: {"y": b.matmul(b.softmax(s, axis=2), v), "z": s},
    "probabilities are an output": lambda b, s, v: (lambda p: {"y": b.matmul(p, v), "z": p})(b.softmax(s, axis=2)),
    "probabilities are used twice": lambda b, s, v: (lambda p: {"y": b.matmul(p, p)})(b.softmax(s, axis=2)),
    "probabilities on the right": lambda b, s, v: {"y": b.matmul(v, b.softmax(s, axis=2))},
    "probabilities transposed": lambda b, s, v: {"y": b.matmul(b.softmax(s, axis=2), v, transpose_a=True)},
    "something between": lambda b, s, v: {"y": b.matmul(b.exp(b.softmax(s, axis=2)), v)},
    "no second product": lambda b, s, v: {"y": b.softmax(s, axis=2)},
    "scores through a function": lambda b, s, v: {"y": b.matmul(b.softmax(b.tanh(s), axis=2), v)},
    "scores squared": lambda b, s, v: {"y": b.matmul(b.softmax(b.mul(s, s), axis=2), v)},
    "a larger batch of values": lambda b, s, v: {
        "y": b.matmul(b.softmax(s, axis=2), b.expand(b.reshape(v, shape=(1, 2, 8, 8)), shape=(3, 2, 8, 8)))
    },
    "NaN becomes one": lambda b, s, v: {"y": b.matmul(_guarded(b, b.softmax(s, axis=2), number=1), v)},
    "all but NaN becomes zero": lambda b, s, v: {"y": b.matmul(_guarded(b, b.softmax(s, axis=2), swapped=True), v)},
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_attention(name: str) -> None:
    b = Builder("case")
    q, k, v = (b.input(name, "float32[2, 8, 8]") for name in "qkv")
    assert found(b.outputs(**CASES[name](b, b.matmul(q, k), v))) is None


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_only_single_precision(dtype: str) -> None:
    assert found(AttentionCase().graph(dtype)) is None
