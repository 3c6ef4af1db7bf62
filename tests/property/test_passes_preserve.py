"""Passes keep the meaning of random graphs: each pass alone, and the default pipelines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.passes  # noqa: F401 (registers the passes)
from edgeir.ir import Graph, parse_graph, print_graph
from edgeir.ir.evaluate import evaluate
from edgeir.ir.storage import large_constants
from edgeir.passes.pipelines import default_pipeline, simplification_pipeline
from edgeir.passmanager import PassContext, Pipeline, registered_passes
from edgeir.targets import lookup
from tests.strategies import assert_outputs_close, graphs, random_inputs

LOSSY = frozenset(
    (
        *("factorize-low-rank", "insert-qdq", "prune-channels", "prune-weights"),
        *("quantize", "quantize-dynamic", "quantize-weights", "separate-convolutions"),
    )
)
"""Passes that change outputs on purpose."""

PASSES = sorted(name for name, cls in registered_passes().items() if cls.__module__.startswith("edgeir.passes"))


def check(graph: Graph, pipeline: Pipeline, context: PassContext) -> Graph:
    """Runs a pipeline on a copy; checks interface, meaning, validity, and that the text reads back."""
    original = print_graph(graph)
    inputs = random_inputs(graph)
    expected = evaluate(graph, inputs)
    changed = graph.copy()
    pipeline.run(changed, context)
    changed.verify()
    assert [(v.name, v.type) for v in changed.inputs] == [(v.name, v.type) for v in graph.inputs]
    assert [v.type for v in changed.outputs] == [v.type for v in graph.outputs]
    assert_outputs_close(evaluate(changed, inputs), expected)
    text = print_graph(changed)
    assert print_graph(parse_graph(text, large_constants(changed))) == text
    assert print_graph(graph) == original
    return changed


@pytest.mark.parametrize("name", [name for name in PASSES if name not in LOSSY])
@given(graph=graphs())
@settings(max_examples=15)
def test_each_pass_keeps_the_meaning(name: str, graph: Graph) -> None:
    context = PassContext(target=lookup("host"), keep_reproducer=False)
    check(graph, Pipeline(name), context)


@pytest.mark.parametrize("target", ["host", None])
@given(graph=graphs(most_nodes=14))
@settings(max_examples=40)
def test_default_pipeline_keeps_the_meaning(target: str | None, graph: Graph) -> None:
    machine = None if target is None else lookup(target)
    check(graph, default_pipeline(machine), PassContext(target=machine, keep_reproducer=False))


@given(graph=graphs(most_nodes=10))
@settings(max_examples=25)
def test_simplification_settles(graph: Graph) -> None:
    context = PassContext(keep_reproducer=False)
    once = check(graph, simplification_pipeline(), context)
    twice = check(once, simplification_pipeline(), context)
    assert len(twice) <= len(once)


@given(graph=graphs(most_nodes=10), limit=st.integers(0, 8))
@settings(max_examples=25)
def test_stopping_anywhere_keeps_the_meaning(graph: Graph, limit: int) -> None:
    context = PassContext(rewrite_limit=limit, keep_reproducer=False)
    check(graph, default_pipeline(), context)
    assert context.rewrites.total() <= limit


@given(graph=graphs())
@settings(max_examples=15)
def test_pipelines_are_deterministic(graph: Graph) -> None:
    texts = set()
    for _ in range(2):
        copied = graph.copy()
        default_pipeline().run(copied, PassContext(keep_reproducer=False))
        texts.add(print_graph(copied))
    assert len(texts) == 1


def test_evaluation_is_repeatable() -> None:
    @given(graph=graphs())
    @settings(max_examples=15)
    def repeat(graph: Graph) -> None:
        inputs = random_inputs(graph)
        first, second = evaluate(graph, inputs), evaluate(graph, inputs)
        assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)

    repeat()
