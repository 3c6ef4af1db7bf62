"""Which pass broke the model, and which rewrite of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeir.ir import Graph
from edgeir.passmanager.context import PassContext
from edgeir.passmanager.numeric import Agreement, NumericCheck
from edgeir.passmanager.pipeline import Pipeline, run_pass
from edgeir.passmanager.report import PassRecord


@dataclass(frozen=True)
class Culprit:
    """The answer.

    Attributes:
        records: every pass up to and including the one that broke the outputs, with its agreement.
        index: position of that pass in the pipeline; None if the outputs stayed within the tolerance.
        rewrite: number of its first wrong rewrite, from 1; None where single rewrites cannot be told apart.
        rule: name of that rewrite.
        node: the node it was done at.
    """

    records: tuple[PassRecord, ...]
    index: int | None = None
    rewrite: int | None = None
    rule: str | None = None
    node: str | None = None

    def __str__(self) -> str:
        lines = [f"{record.text:<28}  {record.agreement}" for record in self.records]
        if self.index is None:
            return "\n".join([*lines, "no pass broke the outputs"])
        lines[-1] += "  ← broke the outputs"
        if self.rewrite is not None:
            lines.append(f"first wrong rewrite: number {self.rewrite}, {self.rule} at {self.node}")
        return "\n".join(lines)


def find_culprit(
    graph: Graph,
    pipeline: Pipeline,
    context: PassContext | None = None,
    samples: Sequence[Mapping[str, np.ndarray]] | None = None,
    tolerance: float = 1e-3,
) -> Culprit:
    """Finds the first pass after which outputs differ, then by bisection its first wrong rewrite.

    Args:
        graph: the original; it is not edited.
        pipeline: the passes.
        context: target, data and services for the passes.
        samples: inputs to compare on; the context's calibration data, or random inputs.
        tolerance: largest difference allowed, relative to the output's largest magnitude.

    Raises:
        EdgeIRError: a pass failed.
    """
    context = context if context is not None else PassContext()
    check = NumericCheck(samples or context.calibration, context.seed)
    check.begin(graph)
    current = graph.copy()
    records: list[PassRecord] = []
    for index, item in enumerate(pipeline):
        before = current.copy()
        record = run_pass(item, current, replace(context, rewrites=context.rewrites.copy()))
        check.after_pass(index, item, current, record)
        records.append(record)
        if not _agrees(record.agreement, tolerance):
            break
    else:
        return Culprit(tuple(records))

    def attempt(count: int) -> tuple[bool, PassContext]:
        trial = before.copy()
        limited = replace(context, rewrite_limit=count, rewrites=type(context.rewrites)(), last_rewrite=None)
        run_pass(item, trial, limited)
        return _agrees(check.agreement(trial), tolerance), limited

    low, high = 0, record.rewrites.total()
    if not high or not attempt(0)[0]:
        return Culprit(tuple(records), index)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attempt(middle)[0] else (low, middle)
    agrees, limited = attempt(high)
    if agrees or limited.last_rewrite is None:
        return Culprit(tuple(records), index)
    return Culprit(tuple(records), index, high, *limited.last_rewrite)


def _agrees(agreement: Agreement | None, tolerance: float) -> bool:
    return agreement is None or agreement.relative_error <= tolerance
