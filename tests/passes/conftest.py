"""How passes are tested: the IR before as text, what is left after, and equal outputs on random inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import edgeir.ops  # noqa: F401
from edgeir.ir import Graph, parse_graph
from edgeir.passmanager import NumericCheck, PassContext, Pipeline

RunPasses = Callable[..., Graph]


@pytest.fixture
def run_passes() -> RunPasses:
    """`run_passes(pipeline, text or graph)`: the graph afterwards, verified and computing the same."""

    def run(pipeline: str, before: str | Graph, tolerance: float = 1e-5, rewrites: int | None = None) -> Graph:
        graph = parse_graph(before) if isinstance(before, str) else before
        context = PassContext(instruments=[NumericCheck()], rewrite_limit=rewrites, keep_reproducer=False)
        report = Pipeline(pipeline).run(graph, context)
        agreement = report.passes[-1].agreement
        assert agreement is not None and agreement.relative_error <= tolerance, f"{agreement}\n{graph}"
        return graph

    return run
