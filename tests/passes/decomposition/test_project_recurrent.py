from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import host
from tests.passes.decomposition.test_unroll_recurrent import BATCH, GATES, SIZE, STEPS, layer

Run = Callable[..., Graph]


def counted(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("optional", [False, True])
def test_one_product_is_left_beside_the_layer(run_passes: Run, op: str, direction: str, optional: bool) -> None:
    graph = run_passes("project-recurrent,fold-constants,dead-code", layer(op, direction, optional))
    operators = counted(graph)
    assert operators["matmul"] == operators[op] == 1
    (node,) = [node for node in graph.nodes if node.op == op]
    assert node.inputs[1] is None
    # The bias has joined the product.
    assert len(node.inputs) <= 3 or node.inputs[3] is None


def test_a_gru_keeps_the_bias_that_it_resets(run_passes: Run) -> None:
    graph = run_passes("project-recurrent,fold-constants,dead-code", layer("gru", linear_before_reset=True))
    (node,) = [node for node in graph.nodes if node.op == "gru"]
    kept = node.input(3).data.reshape(6, -1)
    assert not kept[:5].any() and kept[5].all()


def test_half_precision_is_computed_in_single(run_passes: Run) -> None:
    graph = run_passes("project-recurrent", layer("lstm", dtype="float16"), tolerance=2e-3)
    (node,) = [node for node in graph.nodes if node.op == "lstm"]
    assert node.input(0).type.dtype == "float32"


def test_it_is_done_once(run_passes: Run) -> None:
    once = run_passes("project-recurrent", layer("gru"))
    assert str(run_passes("project-recurrent", once.copy())) == str(once)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_the_layer_that_is_left_can_be_unrolled(run_passes: Run, direction: str) -> None:
    graph = run_passes("project-recurrent,unroll-recurrent", layer("lstm", direction))
    assert not counted(graph)["lstm"]


def test_symbolic_steps() -> None:
    b = Builder("case")
    x = b.input("x", "float32[T, 1, 4]")
    w, r = np.ones((1, 2, 4), np.float32), np.full((1, 2, 2), 0.5, np.float32)
    node = b.node("rnn", x, w, r, hidden_size=2, activations=("tanh",))
    b.graph.set_outputs([("y", node.outputs[0])])
    array = np.random.default_rng(0).standard_normal((5, 1, 4)).astype(np.float32)
    expected = evaluate(b.graph, {"x": array})["y"]
    default_pipeline(host()).run(b.graph, PassContext(target=host(), keep_reproducer=False))
    bound = b.graph.bind({"T": 5})
    got = Runner(bound, build(bound, host(), 1))({"x": array})["y"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("op", GATES)
def test_all_steps_are_two_kernels(op: str) -> None:
    graph = layer(op, "bidirectional")
    array = np.random.default_rng(0).standard_normal((STEPS, BATCH, SIZE)).astype(np.float32)
    expected = evaluate(graph, {"x": array})
    default_pipeline(host()).run(graph, PassContext(target=host(), keep_reproducer=False))
    lowered = build(graph, host(), 2)
    assert len(lowered.calls) == 2
    for name, result in Runner(graph, lowered)({"x": array}).items():
        np.testing.assert_allclose(result, expected[name], rtol=0, atol=2e-6)
