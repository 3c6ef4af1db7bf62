from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeir.ir import Builder, Graph

Run = Callable[..., Graph]


def test_equal_chains_and_constants_merge(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "float32[4]")
    left = b.exp(b.add(x, np.arange(4, dtype=np.float32)))
    right = b.exp(b.add(np.arange(4, dtype=np.float32), x))
    graph = run_passes("common-subexpressions", b.outputs(y=b.mul(left, right), z=right))
    assert [node.op for node in graph.nodes] == ["add", "exp", "mul"]
    assert len(graph.constants) == 1
    assert graph.output_names == ("y", "z")


def test_different_attributes_operands_or_order_stay_apart(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "float32[4, 4]")
    parts = [b.softmax(x, axis=0), b.softmax(x, axis=1), b.sub(x, b.exp(x)), b.sub(b.exp(x), x)]
    graph = run_passes("common-subexpressions", b.outputs(y=b.concat(*parts, axis=0)))
    assert [node.op for node in graph.nodes] == ["softmax", "softmax", "exp", "sub", "sub", "concat"]


def test_constants_that_differ_in_type_or_bits_stay_apart(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "float32[2]")
    zero, negative_zero = np.zeros(2, np.float32), -np.zeros(2, np.float32)
    graph = run_passes("common-subexpressions", b.outputs(y=b.div(x, zero), z=b.div(x, negative_zero)))
    assert len(graph.constants) == 2
