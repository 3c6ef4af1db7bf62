"""Lists of passes, and how they are run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.passmanager.base import Pass
from edgeir.passmanager.context import PassContext
from edgeir.passmanager.options import parse_pass, split_top_level
from edgeir.passmanager.report import PassRecord, PipelineReport
from edgeir.passmanager.reproducer import save_reproducer


class Pipeline:
    """Passes in order. `Pipeline("canonicalize,fold-constants{max-bytes=4096}")` and `str` are inverse."""

    def __init__(self, passes: str | Sequence[Pass | str] = ()) -> None:
        """Takes text, or passes and texts of single passes.

        Raises:
            EdgeIRError: unknown pass or option, or a value of the wrong kind.
        """
        items = split_top_level(passes) if isinstance(passes, str) else passes
        self.passes: tuple[Pass, ...] = tuple(parse_pass(item) if isinstance(item, str) else item for item in items)

    def __str__(self) -> str:
        return ",".join(str(item) for item in self.passes)

    def __repr__(self) -> str:
        return f"Pipeline({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self.passes == other.passes

    def __hash__(self) -> int:
        return hash(self.passes)

    def __len__(self) -> int:
        return len(self.passes)

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    def __add__(self, other: Pipeline) -> Pipeline:
        return Pipeline([*self.passes, *other.passes])

    def run(self, graph: Graph, context: PassContext | None = None) -> PipelineReport:
        """Runs all passes on the graph, in place.

        After every pass that changed the graph it is verified (unless the context says otherwise), and instruments
        are called. When a pass fails, a reproducer is left and named in the error.

        Raises:
            EdgeIRError: a pass failed or left an invalid graph.
        """
        context = context if context is not None else PassContext()
        original = graph.copy() if context.keep_reproducer and self.passes else None
        report = PipelineReport()
        for instrument in context.instruments:
            instrument.begin(graph)
        for index, item in enumerate(self.passes):
            for instrument in context.instruments:
                instrument.before_pass(index, item, graph)
            try:
                record = run_pass(item, graph, context)
            except Exception as error:
                raise self._failure(error, index, original, context) from error
            report.passes.append(record)
            for instrument in context.instruments:
                instrument.after_pass(index, item, graph, record)
        return report

    def _failure(self, error: Exception, index: int, original: Graph | None, context: PassContext) -> EdgeIRError:
        text = str(error) if isinstance(error, EdgeIRError) else f"{type(error).__name__}: {error}"
        kind = type(error) if isinstance(error, EdgeIRError) else EdgeIRError
        what = f"pass {self.passes[index]} (number {index + 1} of {len(self)}) failed"
        if original is None:
            return kind(what, got=text)
        before, start = self._replay(original, index, context)
        try:
            folder = save_reproducer(before, Pipeline(self.passes[start:]), text, context.reproducer_folder)
        except (OSError, EdgeIRError) as problem:
            return kind(what, got=text, hint=f"a reproducer could not be written: {problem}")
        return kind(what, got=text, hint=f"reproduce it with: {reproduce_command(folder)}")

    def _replay(self, graph: Graph, index: int, context: PassContext) -> tuple[Graph, int]:
        """The graph as it was before the failing pass, and the position of the pass that it stands before.

        Running the earlier passes again costs time only when something failed; copying before each costs it always.
        """
        quiet = PassContext(context.target, context.calibration, context.seed, services=context.services, verify=False)
        quiet.rewrite_limit = context.rewrite_limit
        for position in range(index):
            before = graph.copy()
            try:
                self.passes[position].run(graph, quiet)
            except Exception:
                # A pass that does not repeat itself: the reproducer starts there.
                return before, position
        return graph, index


def reproduce_command(folder: Path) -> str:
    """The command that runs a reproducer."""
    return f"python -m edgeir.passmanager {folder}"


def run_pass(item: Pass, graph: Graph, context: PassContext) -> PassRecord:
    """Runs one pass and verifies what it left.

    Raises:
        EdgeIRError: the pass failed, or the graph is not valid any more.
    """
    version, nodes, counted = graph.version, len(graph), Counter(context.rewrites)
    start = time.perf_counter()
    item.run(graph, context)
    end = time.perf_counter()
    changed = graph.version != version
    if changed and context.verify:
        graph.verify()
    verified = time.perf_counter() - end
    rewrites = context.rewrites - counted
    return PassRecord(str(item), end - start, verified, changed, rewrites, nodes, len(graph))
