"""Choices above kernels: other options of a pipeline's passes, compared by the measured time of the kernels they give.

Passes say themselves what else they could do with a graph (`Pass.alternatives`): other layouts of a chain, other
kernels from the same operators. Each alternative is judged alone; those that help are then tried together, the best
first. A pipeline is judged by the sum over its kernels; kernels that were measured before cost nothing.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.passmanager import Pass, PassContext, Pipeline
from edgeir.targets import Target
from edgeir.tuning.tasks import KernelTask, kernel_tasks

STEP_GAIN = 0.999
"""A step must lead to at most this share of the predicted time."""

Move = tuple[int, str]
"""Position of a pass, and what an alternative has that the pass has not."""

KernelSeconds = Callable[[KernelTask], float | None]
"""Seconds of one run of a kernel; None where it cannot be measured."""


class MeasurementError(EdgeIRError):
    """A pipeline's kernels could not be timed."""


@dataclass
class PipelineSearch:
    """Pipelines for one graph.

    Attributes:
        graph: as imported, with static shapes.
        target: the machine.
        kernel_seconds: measures a kernel.
        predicted: text of each pipeline that was judged → seconds of one run of the model; None where it fails.
    """

    graph: Graph
    target: Target
    kernel_seconds: KernelSeconds
    predicted: dict[str, float | None] = field(default_factory=dict)
    _tasks: dict[str, KernelTask] = field(default_factory=dict)

    def run(self, start: Pipeline, seconds: float = float("inf")) -> Pipeline:
        """The best pipeline found; `start` itself if none is predicted to be faster.

        Args:
            start: where the search begins.
            seconds: after which no further pipeline is judged.

        Raises:
            MeasurementError: `start` itself fails.
        """
        end = time.monotonic() + seconds
        least = self._judge(start, 0, self.graph)
        if least is None:
            raise MeasurementError("a kernel of the model cannot be measured", where=str(start))
        gains: dict[Move, float] = {}
        for move, pipeline, position, graph in self._neighbours(start):
            if time.monotonic() > end:
                break
            judged = self._judge(pipeline, position, graph)
            if judged is not None and judged < least:
                gains[move] = least - judged
        best = start
        for move in sorted(gains, key=lambda move: -gains[move]):
            step = next((step for step in self._neighbours(best) if step[0] == move), None)
            if step is None or time.monotonic() > end:
                continue
            judged = self._judge(*step[1:])
            if judged is not None and judged < least * STEP_GAIN:
                best, least = step[1], judged
        return best

    def _neighbours(self, pipeline: Pipeline) -> Iterator[tuple[Move, Pipeline, int, Graph]]:
        """Pipelines with one other pass, the position of that pass, and the graph before it."""
        graph, context = self.graph.copy(), self._context()
        for position, item in enumerate(pipeline.passes):
            for other in item.alternatives(graph, context):
                changed = Pipeline([*pipeline.passes[:position], other, *pipeline.passes[position + 1 :]])
                yield (position, _difference(item, other)), changed, position, graph
            Pipeline([item]).run(graph, context)

    def _judge(self, pipeline: Pipeline, position: int, graph: Graph) -> float | None:
        """Seconds of all kernels; `graph` is what the passes before `position` leave."""
        text = str(pipeline)
        if text not in self.predicted:
            try:
                lowered = graph.copy()
                Pipeline(pipeline.passes[position:]).run(lowered, self._context())
                tasks = kernel_tasks(lowered, self.target, known=self._tasks)
            except EdgeIRError:
                tasks = None
            self.predicted[text] = None if tasks is None else self._sum(tasks)
        return self.predicted[text]

    def _sum(self, tasks: list[KernelTask]) -> float | None:
        total = 0.0
        for task in tasks:
            seconds = self.kernel_seconds(task)
            if seconds is None:
                return None
            total += task.count * seconds
        return total

    def _context(self) -> PassContext:
        return PassContext(target=self.target, keep_reproducer=False)


def _difference(item: Pass, other: Pass) -> str:
    """The options of `other` that `item` has not; of lists, the elements."""
    found = []
    for option in dataclasses.fields(other):  # pyright: ignore[reportArgumentType]
        old, new = getattr(item, option.name), getattr(other, option.name)
        if isinstance(new, tuple):
            new = tuple(element for element in new if element not in old)
        if new != old and new != ():
            found.append(f"{option.name}={new}")
    return ",".join(found)
