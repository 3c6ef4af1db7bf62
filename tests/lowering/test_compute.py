"""Every operator, compiled, against its reference evaluation."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.dtype import dtype_name
from edgeir.ir.evaluate import evaluate
from edgeir.ir.op import registered_ops
from edgeir.lowering.build import build
from edgeir.lowering.compute import computed_ops
from edgeir.lowering.run import Runner
from edgeir.targets import host
from tests.lowering.op_case import OpCase
from tests.lowering.op_cases import all_cases
from tests.lowering.plain_schedule import plain

CASES = all_cases()
# Fused nodes are lowered as regions.
NOT_COMPUTED = {"fused"}


def add_case(
    graph: Graph, inputs: dict[str, np.ndarray], case: OpCase, number: int, outputs: list[tuple[str, Value]]
) -> None:
    """Adds a case to a graph of many: its inputs, its node, its results."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    operands: list[Value | None] = []
    for index, make in enumerate(case.inputs):
        name = f"x{number}_{index}"
        if make is None:
            operands.append(None)
            continue
        array = make(rng)
        if index in case.constants:
            operands.append(graph.add_constant(array, name))
        else:
            operands.append(graph.add_input(name, TensorType(dtype_name(array.dtype), array.shape)))
            inputs[name] = array
    layouts = [case.attributes["layout"]] if case.op == "layout_cast" else None
    node = graph.add_node(case.op, operands, case.attributes, output_layouts=layouts)
    outputs += [(f"{number} {case} result {i}", value) for i, value in enumerate(node.outputs)]


def assert_close(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if tolerance == 0 or expected.dtype.kind in "iub":
        same = np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(expected).tobytes()
        if not same:
            wide = [a.astype(np.float64) if a.dtype.kind not in "iub" else a for a in (got, expected)]
            np.testing.assert_array_equal(wide[0], wide[1])
        return
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, finite.max(initial=0.0)))


def test_every_operator_has_a_computation() -> None:
    names = {op.name for op in registered_ops()} - NOT_COMPUTED
    assert names - computed_ops() == set()


def test_every_operator_has_a_case() -> None:
    assert {op.name for op in registered_ops()} - NOT_COMPUTED - {case.op for case in CASES} == set()


GROUPS = {op: [case for case in CASES if case.op == op] for op in dict.fromkeys(case.op for case in CASES)}


@pytest.mark.parametrize("op", GROUPS)
def test_compiled_operator_agrees_with_its_definition(op: str) -> None:
    """All cases of an operator in one graph, so that one module is compiled for them."""
    graph = Graph(op)
    inputs: dict[str, np.ndarray] = {}
    outputs: list[tuple[str, Value]] = []
    for number, case in enumerate(GROUPS[op]):
        add_case(graph, inputs, case, number, outputs)
    graph.set_outputs(outputs)
    expected = evaluate(graph, inputs)
    got = Runner(graph, build(graph, host(), 1, plain))(inputs)
    problems = []
    for name, array in expected.items():
        case = GROUPS[op][int(name.split()[0])]
        try:
            assert_close(got[name], array, case.tolerance)
        except AssertionError as error:
            problems.append(f"{name}: {error}")
    assert not problems, "\n".join(problems)
