"""Every case of an operator as one graph, so that one module is compiled for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, Value
from tests.lowering.op_case import OpCase
from tests.lowering.op_cases import all_cases
from tests.lowering.test_compute import add_case

UNROLLED = {"lstm", "gru", "rnn"}
"""The default pipeline for a GPU has no recurrent layers left."""

CASES = [case for case in all_cases() if case.op not in UNROLLED]
GROUPS = {op: [case for case in CASES if case.op == op] for op in dict.fromkeys(case.op for case in CASES)}


def op_graph(op: str, wanted: Callable[[OpCase], bool] = lambda _: True) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph and its inputs; an output's name begins with the number of its case in `GROUPS`."""
    graph, inputs = Graph(op), {}
    outputs: list[tuple[str, Value]] = []
    for number, case in enumerate(GROUPS[op]):
        if wanted(case):
            add_case(graph, inputs, case, number, outputs)
    graph.set_outputs(outputs)
    return graph, inputs
