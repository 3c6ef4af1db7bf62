"""Every operator in torch against its reference evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

import edgeir.ops  # noqa: E402  (registers the operators)
from edgeir.ir.evaluate import evaluate  # noqa: E402
from edgeir.ir.op import registered_ops  # noqa: E402
from edgeir.training import GraphModule  # noqa: E402
from edgeir.training.torch_ops.registry import torch_ops  # noqa: E402
from tests.lowering.op_case import OpCase, random  # noqa: E402
from tests.lowering.op_cases import all_cases  # noqa: E402
from tests.training.op_graphs import (  # noqa: E402
    arrays,
    assert_close,
    case_graph,
    quantization_cases,
    recurrent_cases,
    tensors,
)

CASES = [*all_cases(), *recurrent_cases(), *quantization_cases()]
GROUPS = {op: [case for case in CASES if case.op == op] for op in dict.fromkeys(case.op for case in CASES)}
BY_REFERENCE = {"bit_cast", "shift_left", "shift_right"}
"""Operators on bits, for which no gradient exists and torch has no function."""


def test_every_operator_has_a_torch_function() -> None:
    # A fused node runs its body.
    assert {op.name for op in registered_ops()} - torch_ops() == BY_REFERENCE | {"fused"}


def test_every_operator_has_a_case() -> None:
    assert {op.name for op in registered_ops()} - {"fused"} == set(GROUPS)


@pytest.mark.parametrize("op", GROUPS)
def test_torch_agrees_with_the_definition(op: str) -> None:
    """Tolerances are those of compiled code: 2e-6 of the result's range for float32, 0 where bits must be equal."""
    graph, inputs = case_graph(GROUPS[op])
    expected = evaluate(graph, inputs)
    got = arrays(GraphModule(graph).eval()(tensors(inputs)), graph)
    problems = []
    for name, wanted in expected.items():
        case = GROUPS[op][int(name.split()[0])]
        try:
            assert_close(got[name], wanted, case.tolerance)
        except AssertionError as error:
            problems.append(f"{name}: {error}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("op", ["gather", "gather_elements", "scatter_elements"])
def test_an_index_out_of_range_names_the_node(op: str) -> None:
    index = [lambda rng: np.array([[0, 7]])]
    inputs: list[Any] = [random((3, 4)), *index, *([random((1, 2))] if op.startswith("scatter") else [])]
    graph, given = case_graph([OpCase(op, inputs, {"axis": 0})])
    with pytest.raises(edgeir.errors.EdgeIRError, match=rf"index out of range[\s\S]*%{op} = {op}[\s\S]*7"):
        GraphModule(graph)(tensors(given))
