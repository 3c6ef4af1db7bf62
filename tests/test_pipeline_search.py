"""The search over pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import edgeir.ops  # noqa: F401
from edgeir.commands.tune import fastest_pipeline
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.passes.layout.assign_layouts import AssignLayouts
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import Pipeline
from edgeir.pipeline_search import PipelineSearch
from edgeir.targets import lookup
from edgeir.tuning.measure import Candidate, ProcessMeasurer
from edgeir.tuning.record import Record
from edgeir.tuning.recorded_passes import model_context
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import KernelTask

TARGET = lookup("x86-64-v4").with_cores(1)


def two_ragged_chains() -> Graph:
    builder, generator = Builder("net"), np.random.default_rng(0)
    x = builder.input("x", "float32[1, 16, 8, 8]")
    for index, channels in enumerate((24, 64, 40, 32)):
        w = generator.standard_normal((channels, x.type.static_shape[1], 1, 1)).astype(np.float32)
        x = builder.conv(x, w, strides=(1, 1), dilations=(1, 1), padding=(0,) * 4, groups=1)
        x = builder.relu(x, name=f"c{index}")
    return builder.outputs(y=x)


@dataclass
class Clock:
    """Seconds that depend on the number of channel blocks, and their size, of what a kernel writes."""

    seconds: dict[str, float]
    asked: int = 0

    def __call__(self, task: KernelTask) -> float | None:
        self.asked += 1
        outputs = task.task.outputs
        return sum(self.seconds.get(f"{o.shape[1]}:{o.layout}", 1.0 if o.layout else 4.0) for o in outputs)


def halved(pipeline: Pipeline) -> set[str]:
    return {name for item in pipeline.passes if isinstance(item, AssignLayouts) for name in item.halved}


class NoMeasurer:
    """Loses every candidate."""

    def measure(self, task: KernelTask, candidates: Sequence[Candidate], on_record: object = None) -> list[Record]:
        return [Record(task.context, item.template, item.config, error="timeout") for item in candidates]


def test_a_model_that_cannot_be_measured_keeps_its_pipeline_and_is_searched_again(tmp_path: Path) -> None:
    graph = two_ragged_chains()
    with RecordStore(tmp_path / "r.sqlite") as store:
        assert fastest_pipeline(graph, TARGET, store, NoMeasurer()) == default_pipeline(TARGET)
        assert store.count(model_context(graph, TARGET)) == 0


@pytest.mark.parametrize("names", [set(), {"c0"}, {"c2"}, {"c0", "c2"}])
def test_what_helps_is_put_together(names: set[str]) -> None:
    channels = {"c0": 24, "c2": 40}
    blocks = {"c0": 3, "c2": 5}
    clock = Clock({f"{blocks[name]}:NCHW8c": 0.5 for name in names})
    # Where all is halved, the others lose more than these gain.
    clock.seconds |= {"8:NCHW8c": 3.0, "4:NCHW8c": 3.0, **{f"{blocks[name]}:NCHW8c": 2.0 for name in {*blocks} - names}}
    search = PipelineSearch(two_ragged_chains(), TARGET, clock)
    best = search.run(default_pipeline(TARGET))
    assert len(halved(best)) == len(names)
    graph = two_ragged_chains()
    best.run(graph, search._context())
    layouts = {value.type.static_shape[1]: value.type.layout for node in graph.nodes for value in node.outputs[:1]}
    assert {name for name, count in channels.items() if layouts[count] == "NCHW8c"} == names
    assert search.predicted[str(best)] == min(seconds for seconds in search.predicted.values() if seconds is not None)


def test_no_time_gives_the_start() -> None:
    start = default_pipeline(TARGET)
    assert PipelineSearch(two_ragged_chains(), TARGET, Clock({"3:NCHW8c": 0.1})).run(start, 0.0) == start


def test_a_start_that_fails_is_an_error() -> None:
    with pytest.raises(EdgeIRError, match="cannot be measured"):
        PipelineSearch(two_ragged_chains(), TARGET, lambda task: None).run(default_pipeline(TARGET))


def test_a_choice_is_measured_once_and_recorded(tmp_path: Path) -> None:
    target, graph = lookup("host").with_cores(1), two_ragged_chains()
    with RecordStore(tmp_path / "r.sqlite") as store, ProcessMeasurer(1) as measurer:
        first = fastest_pipeline(graph, target, store, measurer)
        assert store.count(model_context(graph, target)) == 1
        known = store.count()
        assert fastest_pipeline(graph, target, store, measurer) == first
        assert store.count() == known
