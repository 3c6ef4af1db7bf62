"""Integer products are exact for every shape, zero point and weight, on every target that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.integer_matmul import IntegerMatmul
from edgeir.targets import Target, lookup
from tests.lowering.integer_products import BASE, SHAPES, product_network, products
from tests.schedules.x86_machines import machine, targets


def check(numbers: dict[str, Any], target: Target, seed: int = 0) -> set[str]:
    """Compares a network with the reference evaluator, bit by bit; returns the templates of its kernels."""
    graph, inputs = product_network(numbers, seed)
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    lowered = build(graph, target)
    np.testing.assert_array_equal(Runner(graph, lowered)(inputs)["y"], expected)
    return {scheduled.template for scheduled in lowered.kernels}


@pytest.mark.parametrize("weights", ["extreme", "pairs"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", targets())
def test_sums_are_exact(name: str, shape: str, weights: str) -> None:
    numbers = BASE | SHAPES[shape] | {"weights": weights}
    assert check(numbers, lookup(name).with_cores(1)) == {IntegerMatmul.name}


@pytest.mark.parametrize("name", ["host", "x86-64-v3"])
@settings(max_examples=15)
@given(numbers=products(), seed=st.integers(0, 1000))
def test_any_product_is_exact(name: str, numbers: dict[str, Any], seed: int) -> None:
    check(numbers, machine(name, 2), seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", targets())
@settings(max_examples=60)
@given(numbers=products(), seed=st.integers(0, 10**6))
def test_any_product_is_exact_everywhere(name: str, numbers: dict[str, Any], seed: int) -> None:
    check(numbers, lookup(name).with_cores(2), seed)


def test_the_right_zero_point_and_computed_operands_are_left_to_others() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    for constant, zero in ((False, None), (True, 3)):
        graph = Graph("net")
        a = graph.add_input("a", TensorType("uint8", (4, 8)))
        weight = np.full((8, 16), 5, np.int8)
        b = graph.add_constant(weight, "b") if constant else graph.add_input("b", TensorType("int8", (8, 16)))
        right = None if zero is None else graph.add_constant(np.array(zero, np.int8), "z")
        flags = {"transpose_a": False, "transpose_b": False}
        node = graph.add_node("matmul_integer", [a, b, None, right], flags)
        graph.set_outputs([("y", node.output)])
        assert not IntegerMatmul().match(lower_node(node, "kernel").task, target)


def test_a_config_outside_the_space_is_refused() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    graph, _ = product_network(BASE)
    task = lower_node(next(node for node in graph.nodes if node.op == "matmul_integer"), "kernel").task
    assert IntegerMatmul().match(task, target)
    for config in ({"rows": 1}, {"rows": 99, "vectors": 1}, {"rows": 1, "vectors": 1, "other": 2}):
        with pytest.raises(EdgeIRError):
            IntegerMatmul().apply(task, config, target)


def test_one_row_of_a_large_matrix_stores_little_padding() -> None:
    """1000 columns are 62.5 vectors: panels of 7 of them end in half a vector of zeros, panels of 8 in 24 columns."""
    target = lookup("x86-64-v4+avx512vnni").with_cores(1)
    graph, _ = product_network(BASE | {"shape": (1, 1280, 1000), "epilogue": False})
    task = lower_node(next(node for node in graph.nodes if node.op == "matmul_integer"), "kernel").task
    vectors = int(IntegerMatmul().default(task, target)["vectors"])
    assert vectors > 1 and 63 % vectors == 0
