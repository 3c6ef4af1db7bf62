"""Recurrent layers whose inputs have been multiplied with their weights: one loop nest for all time steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeir.errors import UnsupportedModelError
from edgeir.ir.graph import Node
from edgeir.ir.types import TensorType
from edgeir.lowering import te
from edgeir.lowering.compute.registry import Call, compute, physical
from edgeir.ops.recurrent import directions, gates
from edgeir.schedules.recurrent_loops import Tile
from edgeir.schedules.recurrent_problem import GateFunction, Recurrence
from edgeir.schedules.recurrent_stage import recurrent_stage

RECURRENT = ("lstm", "gru", "rnn")
"""The operators."""

_NAMES = ("x", "w", "r", "bias", "lengths", "h", "c", "peephole")


def recurrence(node: Node | None) -> Recurrence | None:
    """What a node of a recurrent layer computes; None of any other.

    Raises:
        UnsupportedModelError: its inputs have not been multiplied with their weights.
        EdgeIRError: a dimension is symbolic.
    """
    if node is None or node.op not in RECURRENT:
        return None
    types = [None if value is None else value.type for value in node.inputs]
    return _recurrence(node.op, types, node.attributes)


def _recurrence(op: str, types: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Recurrence:
    present = tuple(name for name, type in zip(_NAMES, types, strict=False) if type is not None)
    if "w" in present:
        raise UnsupportedModelError(
            "a recurrent layer with its input weights cannot be compiled",
            got=op,
            hint="run the pass project-recurrent (or unroll-recurrent) first",
        )
    x = types[0]
    assert x is not None
    steps, batch, _ = physical(x)
    count = directions(attributes)
    backward = (False, True) if count == 2 else (attributes["direction"] == "reverse",)
    functions = tuple(
        tuple(GateFunction(gate.name, gate.alpha, gate.beta) for gate in gates(attributes, direction))
        for direction in range(count)
    )
    return Recurrence(
        op,
        steps,
        batch,
        attributes["hidden_size"],
        backward,
        functions,
        attributes["clip"],
        bool(attributes.get("input_forget")),
        bool(attributes.get("linear_before_reset")),
        present,
    )


@compute(*RECURRENT)
def recurrent(call: Call) -> list[te.Tensor]:
    """Y and the last states, element by element."""
    problem = _recurrence(call.op, call.types, call.attributes)
    inputs = [call.tensor(index) for index in range(len(call.types)) if call.has(index)]
    return recurrent_stage(problem, Tile(), inputs)
