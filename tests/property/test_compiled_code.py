"""Compiled code computes what the reference evaluator computes, on random graphs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from edgeir.ir import Graph
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from tests.strategies import assert_outputs_close, graphs, random_inputs


def compiled_agrees(graph: Graph, optimize: bool) -> None:
    target = lookup("host")
    lowered = graph.copy()
    if optimize:
        default_pipeline(target).run(lowered, PassContext(target=target, keep_reproducer=False))
    runner = Runner(lowered, build(lowered, target))
    for seed in (0, 1):
        inputs = random_inputs(graph, seed)
        assert_outputs_close(runner(inputs), evaluate(graph, inputs))


@given(graph=graphs(most_nodes=10))
@settings(max_examples=20)
def test_default_pipeline_and_compiled_code(graph: Graph) -> None:
    compiled_agrees(graph, optimize=True)


@given(graph=graphs(most_nodes=5))
@settings(max_examples=15)
def test_compiled_code_without_passes(graph: Graph) -> None:
    compiled_agrees(graph, optimize=False)


@pytest.mark.slow
@given(graph=graphs(most_nodes=14))
@settings(max_examples=300)
def test_many_compiled_graphs(graph: Graph) -> None:
    compiled_agrees(graph, optimize=True)
