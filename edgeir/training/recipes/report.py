"""What each stage of a recipe gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgeir.ir import Graph, Value, graph_statistics
from edgeir.ir.dtype import bits


@dataclass
class StageReport:
    """What a stage gave.

    Attributes:
        name: of the stage; `original` for the model as it came, `compiled` for the artifact.
        metrics: of the test data.
        parameters: elements of all constants.
        nonzero: those that are not zero.
        bytes: of the weights, as the compiled model stores them.
        code_bytes: of the artifact's code; 0 for what is not compiled.
        macs: multiply-accumulates for a batch of one.
        latency: seconds of one run of the compiled model; None where it was not measured.
        seconds: that the stage took, those of killed runs not included.
        epochs: of its training.
    """

    name: str
    metrics: dict[str, float]
    parameters: int = 0
    nonzero: int = 0
    bytes: int = 0
    code_bytes: int = 0
    macs: int = 0
    latency: float | None = None
    seconds: float = 0.0
    epochs: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


@dataclass
class RecipeReport:
    """All stages in order; `str` gives a table.

    Attributes:
        stages: the model as it came first, the artifact last.
        artifact: its folder, if there is one.
        notes: what could not be measured, and why.
    """

    stages: list[StageReport] = field(default_factory=list)
    artifact: str | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.stages:
            return "no stages"
        first = next(iter(self.stages[0].metrics))
        lines = [
            f"{'stage':<20}{first:>10}{'parameters':>12}{'nonzero':>9}{'KiB':>10}{'code KiB':>10}"
            f"{'M MACs':>9}{'ms':>9}{'seconds':>9}"
        ]
        for stage in self.stages:
            value = stage.metrics.get(first)
            score = "" if value is None else f"{value:.2%}" if first in ("accuracy", "top-5") else f"{value:.4g}"
            share = f"{stage.nonzero / stage.parameters:.0%}" if stage.parameters else ""
            code = f"{stage.code_bytes / 1024:.1f}" if stage.code_bytes else ""
            latency = "" if stage.latency is None else f"{1e3 * stage.latency:.3f}"
            lines.append(
                f"{stage.name:<20}{score:>10}{stage.parameters or '':>12}{share:>9}{stage.bytes / 1024:>10.1f}"
                f"{code:>10}{stage.macs / 1e6:>9.2f}{latency:>9}{stage.seconds:>9.1f}"
            )
        return "\n".join([*lines, *self.notes])


def graph_report(name: str, graph: Graph, metrics: dict[str, float], seconds: float = 0.0) -> StageReport:
    """A report of a graph with fixed shapes, its weights counted as they will be stored."""
    statistics = graph_statistics(graph)
    constants = [value for value in graph.constants if value.is_used]
    return StageReport(
        name,
        metrics,
        parameters=statistics.parameters,
        nonzero=sum(int((value.data != 0).sum()) for value in constants),
        bytes=sum((value.data.size * _stored_bits(value) + 7) // 8 for value in constants),
        macs=statistics.macs,
        seconds=seconds,
    )


def _stored_bits(value: Value) -> int:
    """Bits of an element of a constant; weights that are only read quantized are stored so."""
    uses = value.uses
    if uses and all(node.op in ("quantize", "log_quantize") and position == 0 for node, position in uses):
        return max(bits(node.output.type.dtype) for node, _ in uses)
    return bits(value.type.dtype)
