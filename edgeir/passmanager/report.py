"""What a pipeline did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edgeir.passmanager.numeric import Agreement


@dataclass
class PassRecord:
    """One pass of a pipeline run.

    Attributes:
        text: the pass with its options.
        seconds: wall time of the pass alone.
        verify_seconds: wall time of the verification after it.
        changed: whether the graph was edited, observed through `Graph.version`.
        rewrites: rule or pass name → rewrites.
        nodes_before, nodes_after: nodes of the graph.
        agreement: how outputs agree with the original's; None without a numeric check.
    """

    text: str
    seconds: float
    verify_seconds: float
    changed: bool
    rewrites: Counter[str]
    nodes_before: int
    nodes_after: int
    agreement: Agreement | None = None


@dataclass
class PipelineReport:
    """All passes of a pipeline run, in order. `str` gives a table."""

    passes: list[PassRecord] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall time of all passes and verifications."""
        return sum(record.seconds + record.verify_seconds for record in self.passes)

    @property
    def rewrites(self) -> Counter[str]:
        """Rewrites of all passes by rule."""
        return sum((record.rewrites for record in self.passes), Counter())

    def __str__(self) -> str:
        lines = [f"{'pass':<28}{'ms':>9}{'verify':>9}  {'nodes':<16}{'rewrites':>8}  changed"]
        for record in self.passes:
            nodes = f"{record.nodes_before} → {record.nodes_after}"
            line = f"{record.text:<28}{record.seconds * 1e3:>9.1f}{record.verify_seconds * 1e3:>9.1f}  {nodes:<16}"
            line += f"{record.rewrites.total():>8}  {'yes' if record.changed else 'no'}"
            lines.append(line + (f"  {record.agreement}" if record.agreement is not None else ""))
        return "\n".join(lines)
