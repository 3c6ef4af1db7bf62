from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeir.ir import Builder, Graph


def test_chains_without_use_go(run_passes: Callable[..., Graph]) -> None:
    b = Builder("case")
    x = b.input("x", "float32[4]")
    b.exp(b.add(x, np.ones(4, np.float32)))
    graph = run_passes("dead-code", b.outputs(y=b.relu(x)))
    assert [node.op for node in graph.nodes] == ["relu"]
    assert not graph.constants
    assert [value.name for value in graph.inputs] == ["x"]


def test_one_used_result_keeps_a_node(run_passes: Callable[..., Graph]) -> None:
    b = Builder("case")
    node = b.node("top_k", b.input("x", "float32[4]"), k=2, axis=0)
    graph = run_passes("dead-code", b.outputs(y=node.outputs[1]))
    assert [node.op for node in graph.nodes] == ["top_k"]
