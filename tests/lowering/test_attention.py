"""Attention as a kernel's task, and as compiled code against the reference evaluator."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.attention_problem import Attention
from edgeir.targets import Target, host
from tests.lowering.attention_graphs import LAYOUTS, MASKS, AttentionCase
from tests.schedules.tasks import PLAIN

HOST = host()


def fused(graph: Graph, target: Target = PLAIN) -> Graph:
    """The graph as one kernel."""
    FuseOperators().run(graph, PassContext(target=target))
    (node,) = graph.nodes
    assert node.op == "fused" and node.attributes["anchor"] == "softmax"
    return graph


def problem(case: AttentionCase) -> Attention:
    (node,) = fused(case.graph()).nodes
    found = lower_node(node, "main").task.attention
    assert found is not None
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_sizes_of_the_task(layout: str) -> None:
    found = problem(AttentionCase(batch=2, heads=3, mask="full", layout=layout, guard=True))
    assert (found.batch, found.queries, found.keys, found.depth, found.columns) == ((2, 3), 9, 21, 8, 17)
    assert found.guard and found.order == ((0, 2, 1, 3) if layout == "heads inside" else (0, 1, 2, 3))
    stages = found.build()
    shapes = [tuple(int(d) for d in getattr(stages, name).shape) for name in ("query", "key", "value", "logits")]
    assert shapes == [(2, 3, 9, 8), (2, 3, 21, 8), (2, 3, 21, 17), (2, 3, 9, 21)]
    assert not problem(AttentionCase()).guard


def test_softmax_alone_is_no_attention() -> None:
    graph = AttentionCase().graph()
    FuseOperators(attention=False).run(graph, PassContext(target=PLAIN))
    tasks = [lower_node(node, "main").task for node in graph.nodes if node.op == "fused"]
    assert "softmax" in [task.anchor for task in tasks] and all(task.attention is None for task in tasks)
    (softmax,) = [node for node in AttentionCase().graph().nodes if node.op == "softmax"]
    assert lower_node(softmax, "main").task.attention is None


@pytest.mark.parametrize("target", [PLAIN, HOST], ids=lambda target: target.name)
def test_heads_that_share_keys_and_values(target: Target) -> None:
    b = Builder("grouped queries")
    q = b.input("q", "float32[1, 18, 6, 16]")
    shared = (b.input(name, "float32[1, 2, 18, 16]") for name in "kv")
    k, v = (
        b.reshape(b.expand(b.reshape(x, shape=(1, 2, 1, 18, 16)), shape=(1, 2, 3, 18, 16)), shape=(1, 6, 18, 16))
        for x in shared
    )
    s = b.matmul(b.mul(b.transpose(q, perm=(0, 2, 1, 3)), np.array(0.25, np.float32)), k, transpose_b=True)
    y = b.transpose(b.matmul(b.softmax(s, axis=3), v), perm=(0, 2, 1, 3))
    graph = b.outputs(y=b.reshape(y, shape=(1, 18, 96)))
    inputs = AttentionCase().inputs(graph)
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    assert [node.op for node in graph.nodes if node.op != "reshape"] == ["fused"]
    lowered = build(graph, target)
    assert "attention" in [kernel.template for kernel in lowered.kernels]
    np.testing.assert_allclose(Runner(graph, lowered)(inputs)["y"], expected, rtol=1e-5, atol=1e-5)


def check(case: AttentionCase, target: Target, seed: int = 0) -> np.ndarray:
    """Compiles and compares, NaN with NaN; returns the expected result."""
    graph = case.graph()
    inputs = case.inputs(graph, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = evaluate(graph, inputs)["y"]
    lowered = build(fused(graph, target), target)
    assert [kernel.template for kernel in lowered.kernels] == ["attention"]
    found = Runner(graph, lowered)(inputs)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    return expected


@st.composite
def cases(draw: st.DrawFn) -> AttentionCase:
    size = lambda least, most: draw(st.integers(least, most))  # noqa: E731
    return AttentionCase(
        size(1, 2), size(1, 3), size(4, 40), size(4, 70), size(1, 40), size(4, 40),
        draw(st.sampled_from(MASKS)), draw(st.sampled_from(LAYOUTS)), draw(st.booleans()), draw(st.booleans()),
        draw(st.sampled_from([0.0, 0.3, 0.9])),
    )  # fmt: skip


@settings(max_examples=12)
@given(case=cases(), cores=st.integers(1, 2), seed=st.integers(0, 3))
def test_any_attention_equals_the_definition(case: AttentionCase, cores: int, seed: int) -> None:
    check(case, PLAIN.with_cores(cores), seed)


@settings(max_examples=8)
@given(case=cases(), seed=st.integers(0, 3))
def test_any_attention_on_this_machine(case: AttentionCase, seed: int) -> None:
    lanes = HOST.lanes()
    case = replace(case, keys=max(case.keys, lanes), columns=max(case.columns, lanes))
    check(case, HOST.with_cores(2), seed)


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("mask", ["keys", "full", "choice"])
@pytest.mark.parametrize("keys", [32, 37])
@pytest.mark.parametrize("target", [PLAIN, HOST.with_cores(2)], ids=lambda target: target.name)
def test_rows_without_any_key_are_nan_or_zeros(target: Target, keys: int, mask: str, guard: bool) -> None:
    case = AttentionCase(2, 2, 6, keys, 16, 16, mask, guard=guard, blocked=0.4)
    expected = check(case, target)
    nothing = expected[0, :, : 6 if mask == "keys" else 1]
    assert np.all(nothing == 0) if guard else np.all(np.isnan(nothing))
    assert np.isfinite(expected[1]).all() and np.abs(expected[1]).max() > 0


@pytest.mark.parametrize("guard", [False, True])
def test_numbers_that_are_none_spread_as_in_the_definition(guard: bool) -> None:
    case = AttentionCase(1, 1, 8, 24, 8, 16, "full", guard=guard)
    graph = case.graph()
    inputs = case.inputs(graph)
    mask = inputs["m"][0, 0]
    mask[0, 3], mask[1, 5], mask[2, :], mask[3, 0] = np.nan, np.inf, -3.4e38, -1e30
    mask[4, ::2], mask[5, 1:] = -200.0, -np.inf
    inputs["q"][0, 0, 7] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = evaluate(graph, inputs)["y"]
    assert [bool(np.isnan(row).any()) for row in expected[0, 0]] == [n in (0, 1, 7) and not guard for n in range(8)]
    for target in (PLAIN, HOST):
        kernel = fused(graph.copy(), target)
        found = Runner(kernel, build(kernel, target))(inputs)["y"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_target_without_vectors_computes_it_by_definition() -> None:
    case = AttentionCase(mask="full", blocked=0.4, guard=True)
    graph = case.graph()
    inputs = case.inputs(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = evaluate(graph, inputs)["y"]
    lowered = build(fused(graph), replace(PLAIN, vector_bits=32))
    assert [kernel.template for kernel in lowered.kernels] != ["attention"]
    np.testing.assert_allclose(Runner(graph, lowered)(inputs)["y"], expected, rtol=1e-5, atol=1e-5)
