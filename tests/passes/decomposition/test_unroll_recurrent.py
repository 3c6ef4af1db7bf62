from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeir.ir import Builder, Graph
from edgeir.ops.recurrent import ACTIVATIONS
from edgeir.passes.decomposition.unroll_recurrent import UnrollRecurrent
from edgeir.passmanager import PassContext

Run = Callable[..., Graph]
STEPS, BATCH, SIZE, HIDDEN = 3, 2, 4, 5
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
FUNCTIONS = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}


def layer(
    op: str, direction: str = "forward", optional: bool = True, dtype: str = "float32", **attributes: Any
) -> Graph:
    """A layer with all optional operands, or with none."""
    generator = np.random.default_rng(0)
    count, rows = (2 if direction == "bidirectional" else 1), GATES[op] * HIDDEN
    b = Builder(op)
    np_dtype = np.dtype(dtype)

    def weights(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) * 0.5).astype(np_dtype)

    operands: list[Any] = [b.input("x", f"{dtype}[{STEPS}, {BATCH}, {SIZE}]")]
    operands += [weights(count, rows, SIZE), weights(count, rows, HIDDEN)]
    if optional:
        operands += [weights(count, 2 * rows), np.array([3, 1], np.int32), weights(count, BATCH, HIDDEN)]
        if op == "lstm":
            operands += [weights(count, BATCH, HIDDEN), weights(count, 3 * HIDDEN)]
    functions = attributes.pop("activations", FUNCTIONS[op])
    node = b.node(op, *operands, hidden_size=HIDDEN, direction=direction, activations=functions * count, **attributes)
    b.graph.set_outputs([(f"y{index}", value) for index, value in enumerate(node.outputs)])
    return b.graph


def operators(graph: Graph) -> set[str]:
    return {node.op for node in graph.nodes}


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("optional", [False, True])
def test_unrolled_layers_compute_the_same(run_passes: Run, op: str, direction: str, optional: bool) -> None:
    graph = run_passes("unroll-recurrent,canonicalize,fold-constants", layer(op, direction, optional))
    assert operators(graph).isdisjoint(GATES)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("lstm", {"input_forget": True}),
        ("lstm", {"clip": 0.3}),
        ("gru", {"linear_before_reset": True}),
        ("gru", {"linear_before_reset": True, "clip": 0.2}),
        ("rnn", {"clip": 0.1}),
    ],
)
@pytest.mark.parametrize("optional", [False, True])
def test_variants(run_passes: Run, op: str, attributes: dict[str, Any], optional: bool) -> None:
    run_passes("unroll-recurrent", layer(op, "bidirectional", optional, **attributes))


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_activations(run_passes: Run, function: str) -> None:
    alpha = (0.7,) if ACTIVATIONS[function].alpha is not None else ()
    beta = (0.3,) if ACTIVATIONS[function].beta is not None else ()
    graph = layer("rnn", activations=(function,), activation_alpha=alpha, activation_beta=beta)
    run_passes("unroll-recurrent", graph)


def test_half_precision_is_computed_in_single(run_passes: Run) -> None:
    graph = run_passes("unroll-recurrent", layer("lstm", dtype="float16"), tolerance=2e-3)
    assert {value.type.dtype for node in graph.nodes if node.op == "matmul" for value in node.outputs} == {"float32"}


def test_symbolic_or_many_steps_stay(run_passes: Run) -> None:
    assert operators(run_passes("unroll-recurrent{max-steps=2}", layer("gru"))) == {"gru"}
    b = Builder("case")
    x = b.input("x", "float32[T, 1, 4]")
    node = b.node(
        "rnn", x, np.ones((1, 2, 4), np.float32), np.ones((1, 2, 2), np.float32), hidden_size=2, activations=("tanh",)
    )
    b.graph.set_outputs([("y", node.outputs[0])])
    assert operators(run_passes("unroll-recurrent", b.graph)) == {"rnn"}


def test_one_product_for_all_inputs(run_passes: Run) -> None:
    graph = run_passes("unroll-recurrent,dead-code", layer("lstm", optional=False))
    # The input's product, and one of the state for each step but the first, whose state is zero.
    assert sum(node.op == "matmul" for node in graph.nodes) == STEPS


def test_alternatives_unroll_what_is_left() -> None:
    graph, context = layer("gru"), PassContext()
    assert UnrollRecurrent(1).alternatives(graph, context) == (UnrollRecurrent(STEPS),)
    assert UnrollRecurrent(STEPS).alternatives(graph, context) == ()
