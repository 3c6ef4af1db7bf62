"""Problems of integer kernels: their example weights allow what the model's do, and no more."""

from __future__ import annotations

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from edgeir.tuning.problem import Problem, example_arrays
from tests.lowering.integer_networks import BASE, conv_network


@pytest.mark.parametrize("channels", [(24, 40), (3, 5)])
@pytest.mark.parametrize("weights", ["extreme", "symmetric", "pairs", "int4", "codes"])
def test_the_kernel_read_back_is_the_model_s(weights: str, channels: tuple[int, int]) -> None:
    target = lookup("x86-64-v3")
    graph, _ = conv_network(BASE | {"weights": weights, "channels": channels}, 0, 8)
    FuseOperators().run(graph, PassContext(target=target))
    node = next(node for node in graph.nodes if node.op == "fused" and node.attributes["anchor"] == "conv_integer")
    task = lower_node(node, "kernel").task
    problem = Problem.of_node(node)
    assert Problem.from_text(problem.to_text()) == problem
    again = problem.lowering().task
    assert again.integers == task.integers and again.key == task.key
    alone = problem.graph()
    (result,) = evaluate(alone, example_arrays(alone, seed=1)).values()
    assert len(set(result.ravel().tolist())) > 1


@pytest.mark.parametrize("scale", [1e-3, 0.4, 3.0])
def test_whether_floats_fit_is_kept(scale: float) -> None:
    graph = Graph("net")
    x = graph.add_input("x", TensorType("uint8", (1, 16, 5, 5)))
    weight = graph.add_constant(np.ones((8, 16, 1, 1), np.int8), "w")
    window = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    y = graph.add_node("conv_integer", [x, weight, None, None], window).output
    factors = graph.add_constant(np.full((1, 8, 1, 1), scale, np.float32), "s")
    y = graph.add_node("dequantize", [y, factors, None], {}).output
    one, zero = graph.add_constant(np.float32(1), "one"), graph.add_constant(np.uint8(3), "zero")
    graph.set_outputs([("y", graph.add_node("quantize", [y, one, zero], {"dtype": "uint8"}).output)])
    FuseOperators().run(graph, PassContext(target=lookup("x86-64-v3")))
    (node,) = graph.nodes
    for seed in range(3):
        task = lower_node(next(iter(Problem.of_node(node).graph(seed).nodes)), "kernel").task
        assert task.integers is not None and task.integers.floats_fit == (scale < 0.5)


def test_weights_that_are_no_input_are_refused() -> None:
    problem = Problem('graph "kernel" () {\n}', (), (("w", "pairs"),))
    with pytest.raises(EdgeIRError):
        problem.graph()
