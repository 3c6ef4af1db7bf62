"""Every operator, compiled, against its reference evaluation."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, TensorType
from edgeir.ir.dtype import dtype_name
from edgeir.ir.evaluate import evaluate
from edgeir.ir.op import registered_ops
from edgeir.lowering.build import build
from edgeir.lowering.compute import computed_ops
from edgeir.lowering.run import Runner
from edgeir.targets import host

from op_cases import OpCase, all_cases
from plain_schedule import plain

CASES = all_cases()
# Fused nodes are lowered as regions; the pass unroll-recurrent removes recurrent operators.
NOT_COMPUTED = {"fused", "lstm", "gru", "rnn"}


def case_graph(case: OpCase, arrays: list[np.ndarray | None]) -> tuple[Graph, dict[str, np.ndarray]]:
    graph = Graph(case.op)
    inputs: dict[str, np.ndarray] = {}
    operands = []
    for index, array in enumerate(arrays):
        if array is None:
            operands.append(None)
        elif index in case.constants:
            operands.append(graph.add_constant(array, f"c{index}"))
        else:
            operands.append(graph.add_input(f"x{index}", TensorType(dtype_name(array.dtype), array.shape)))
            inputs[f"x{index}"] = array
    layouts = [case.attributes["layout"]] if case.op == "layout_cast" else None
    node = graph.add_node(case.op, operands, case.attributes, output_layouts=layouts)
    graph.set_outputs([(f"y{i}", value) for i, value in enumerate(node.outputs)])
    return graph, inputs


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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_operator_agrees_with_its_definition(case: OpCase) -> None:
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    arrays = [None if make is None else make(rng) for make in case.inputs]
    graph, inputs = case_graph(case, arrays)
    expected = evaluate(graph, inputs)
    got = Runner(graph, build(graph, host(), 1, plain))(inputs)
    for name in expected:
        assert_close(got[name], expected[name], case.tolerance)
