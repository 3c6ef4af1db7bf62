"""Running a pipeline from the command line, with its instruments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeir.ir import Graph
from edgeir.passmanager import Dump, PassContext, Pipeline, find_culprit
from edgeir.targets import lookup


@dataclass(frozen=True)
class OptimizeReport:
    """What happened: a table for people, and the verdict of the numeric check."""

    table: str
    passed: bool = True
    verdict: str = ""


def optimize(
    graph: Graph,
    passes: str,
    *,
    target: str = "host",
    stop_after: int | None = None,
    dump: Path | None = None,
    check: bool = False,
    tolerance: float = 1e-3,
) -> OptimizeReport:
    """Runs a pipeline over a graph, in place.

    Args:
        graph: the graph.
        passes: the pipeline as text.
        target: the target that the passes see.
        stop_after: stop after this many rewrites.
        dump: folder for the IR around every pass.
        check: find the first pass, and its first rewrite, after which outputs differ from the original's.
        tolerance: largest difference allowed, relative to an output's largest magnitude.

    Raises:
        EdgeIRError: unknown pass or target, or a pass failed.
    """
    pipeline = Pipeline(passes)
    context = PassContext(target=lookup(target), rewrite_limit=stop_after)
    if dump is not None:
        context.instruments = (Dump(dump, before=True),)
    culprit = None
    if check:
        culprit = find_culprit(graph, pipeline, PassContext(target=context.target), tolerance=tolerance)
    report = pipeline.run(graph, context)
    if culprit is None:
        return OptimizeReport(str(report))
    return OptimizeReport(f"{report}\n\n{culprit}", culprit.index is None, str(culprit).splitlines()[-1])
