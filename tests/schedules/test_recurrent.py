"""Recurrent layers in one kernel, against their definition, for every way to cut the loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.dtype import dtype_name
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.task import lower_node
from edgeir.schedules.recurrent import Recurrent
from edgeir.schedules.select import select
from edgeir.schedules.task import Task
from edgeir.targets import host
from edgeir.targets.target import Target
from tests.lowering.recurrent_cases import FUNCTIONS, OTHERS, recurrent_case
from tests.schedules.tasks import PLAIN, run

TWO = PLAIN.with_cores(2)


class Layer:
    """A layer by itself: its task, its operands and what it should compute."""

    def __init__(self, op: str, sizes: tuple[int, int, int], constant: bool = True, **options: Any) -> None:
        case = recurrent_case(op, sizes=sizes, **options)
        rng = np.random.default_rng(7)
        graph = Graph(op)
        operands: list[Value | None] = []
        inputs: dict[str, np.ndarray] = {}
        self.arrays: list[np.ndarray] = []
        for index, make in enumerate(case.inputs):
            if make is None:
                operands.append(None)
                continue
            array = make(rng)
            self.arrays.append(array)
            if constant and index in case.constants:
                operands.append(graph.add_constant(array, f"x{index}"))
            else:
                inputs[f"x{index}"] = array
                operands.append(graph.add_input(f"x{index}", TensorType(dtype_name(array.dtype), array.shape)))
        names = [f"x{index}" for index, make in enumerate(case.inputs) if make is not None]
        values = dict(zip(names, (value for value in operands if value is not None), strict=True))
        body = Graph("body")
        inner = {name: body.add_input(name, value.type) for name, value in values.items()}
        layer = body.add_node(
            op, [None if v is None else inner[f"x{i}"] for i, v in enumerate(operands)], case.attributes
        )
        body.set_outputs([(f"y{i}", value) for i, value in enumerate(layer.outputs)])
        node = graph.add_node("fused", list(values.values()), {"body": body, "anchor": op})
        graph.set_outputs([(f"y{i}", value) for i, value in enumerate(node.outputs)])
        self.task: Task = lower_node(node, "main").task
        self.expected = list(evaluate(graph, inputs).values())

    def check(self, config: dict[str, Any] | None = None, target: Target = PLAIN) -> None:
        """Compiles with a config (the default's knobs where it has none) and compares."""
        template = Recurrent()
        chosen = {**template.default(self.task, target), **(config or {})}
        got = run(template.apply(self.task, chosen, target), self.task, self.arrays, target)
        for result, wanted in zip(got, self.expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("optional", [False, True])
def test_every_way_to_cut_the_loops(op: str, direction: str, optional: bool) -> None:
    # Five sequences in tiles of two, ten units in vectors of four: both overlap.
    layer = Layer(op, (3, 5, 10), direction=direction, optional=optional)
    threads = Recurrent().space(layer.task, TWO)["threads"]
    assert set(threads) == {"none", "sequences", "units"}
    for rows, vectors, shared in [(2, 2, "none"), (3, 1, "sequences"), (2, 1, "units")]:
        layer.check({"rows": rows, "vectors": vectors, "threads": shared}, TWO)


@pytest.mark.parametrize("hidden", [1, 3, 4, 37])
@pytest.mark.parametrize("op", FUNCTIONS)
def test_sizes(op: str, hidden: int) -> None:
    Layer(op, (4, 2, hidden), optional=True).check()
    Layer(op, (1, 1, hidden)).check(target=host().with_cores(1))


@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("lstm", {"input_forget": True}),
        ("gru", {"linear_before_reset": True}),
        ("lstm", {"clip": 0.3}),
        ("gru", {"clip": 0.3, "linear_before_reset": True}),
        *((op, {"activations": functions}) for op, functions in OTHERS.items()),
        *(("rnn", {"activations": (name,)}) for name in ("relu", "thresholdedrelu", "softplus", "softsign")),
    ],
)
def test_variants_and_functions(op: str, options: dict[str, Any]) -> None:
    Layer(op, (3, 2, 9), optional=True, **options).check(target=host().with_cores(1))


def test_sequences_never_meet_and_units_share_long_steps() -> None:
    template, target = Recurrent(), host().with_cores(2)

    def threads(sizes: tuple[int, int, int], **options: Any) -> Any:
        return template.default(Layer("lstm", sizes, **options).task, target)["threads"]

    assert threads((32, 4, 64)) == "sequences"
    assert threads((32, 1, 64), direction="bidirectional") == "sequences"
    assert threads((4, 1, 320)) == "units"
    assert threads((4, 1, 16)) == "none"


def test_only_constant_single_precision_weights_are_packed() -> None:
    assert select(Layer("lstm", (2, 1, 4)).task, PLAIN).name == "recurrent"
    assert select(Layer("lstm", (2, 1, 4), constant=False).task, PLAIN).name == "fallback"
    assert select(Layer("lstm", (2, 1, 4), dtype="float64").task, PLAIN).name == "fallback"


def test_other_knobs_are_refused() -> None:
    task, template = Layer("rnn", (2, 1, 8)).task, Recurrent()
    for config in ({}, {"rows": 1, "vectors": 9, "threads": "none"}, {"rows": 1, "vectors": 1, "threads": "units"}):
        with pytest.raises(EdgeIRError, match="outside the space"):
            template.apply(task, config, PLAIN)
