"""What the passes of this folder share: low-rank factors, what they cost, and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Node, Value
from edgeir.ir.dtype import FLOATS
from edgeir.passmanager import PassContext

RESTRUCTURED = "restructuring-report"
"""The service that these passes call with their list of `Replaced` and `Left`, if there is one."""


@dataclass(frozen=True)
class Replaced:
    """A layer that became two.

    Attributes:
        layer: name of its result.
        rank: channels between the two, for one group of them.
        error: ‖W − Ŵ‖ / ‖W‖ (Frobenius) of the weights Ŵ that the two together amount to.
        macs, macs_before: multiply-accumulates for each position (or row) of the result.
    """

    layer: str
    rank: int
    error: float
    macs: float
    macs_before: float


@dataclass(frozen=True)
class Left:
    """A layer that stayed, and why."""

    layer: str
    reason: str


@dataclass
class RestructuringReport:
    """What a pass of this folder did, layer by layer."""

    replaced: list[Replaced] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"replaced": [asdict(item) for item in self.replaced], "left": [asdict(item) for item in self.left]}


@dataclass(frozen=True)
class Plan:
    """How to replace a node.

    Attributes:
        build: adds the new nodes before the old one; returns the value to take its place.
        outcome: what the report says.
    """

    build: Callable[[Builder], Value]
    outcome: Replaced


def factors(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best rank-r approximation of a matrix (…, M, N) in the Frobenius norm: (…, M, r) and (…, r, N).

    From the singular value decomposition (Eckart and Young, 1936), the singular values shared evenly.
    """
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[..., :rank])
    return u[..., :rank] * root[..., None, :], root[..., :, None] * vt[..., :rank, :]


def relative_error(exact: np.ndarray, approximate: np.ndarray) -> float:
    """‖exact − approximate‖ / ‖exact‖; 0 for zero weights."""
    norm = float(np.linalg.norm(exact))
    return float(np.linalg.norm(exact - approximate)) / norm if norm else 0.0


def float_weights(node: Node) -> np.ndarray | str:
    """A layer's constant weights in float64, or why they cannot be taken apart."""
    weights = node.input(1)
    if not weights.is_constant:
        return "its weights are not constant"
    if weights.type.dtype not in FLOATS:
        return f"its weights are {weights.type.dtype}"
    if weights.type.layout or node.output.type.layout:
        return "layouts were assigned already"
    if not np.isfinite(weights.data.astype(np.float64)).all():
        return "its weights are not finite"
    return weights.data.astype(np.float64)


def replace_layers(
    graph: Graph, context: PassContext, name: str, plan: Callable[[Node], Plan | str | None]
) -> RestructuringReport:
    """Replaces the layers of a graph for which there is a plan, and hands out the report.

    Args:
        graph: the graph.
        context: counts the rewrites.
        name: of the pass.
        plan: node → what to do, why not, or None where the pass has nothing to do with the node.

    Raises:
        EdgeIRError: a plan failed; the graph is as it was, as all plans are made before the first edit.
    """
    report = RestructuringReport()
    found: list[tuple[Node, Plan]] = []
    for node in graph.nodes:
        made = plan(node)
        if isinstance(made, Plan):
            found.append((node, made))
        elif made is not None:
            report.left.append(Left(node.outputs[0].name, made))
    for node, item in found:
        if not context.permit(name, node):
            continue
        value = item.build(Builder(graph, before=node, location=node.location))
        result = node.output.name
        graph.replace_node(node, [value])
        graph.rename(value, graph.fresh_name(result))
        report.replaced.append(item.outcome)
    graph.remove_unused_constants()
    if RESTRUCTURED in context.services:
        context.services[RESTRUCTURED](report)
    return report


def check_open_share(where: str, name: str, value: float) -> None:
    """Whether a share lies above 0 and at most at 1.

    Raises:
        EdgeIRError: it does not, or is no number.
    """
    if not 0 < value <= 1:
        raise EdgeIRError(f"{name} is out of range", where=where, expected="a number above 0, up to 1", got=value)
