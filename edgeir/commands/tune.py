"""Tuning a model: import, passes, the tuner, and the whole model's latency before and after."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeir.compiler import load_model
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.ir.shapes import require_static
from edgeir.lowering.build import build
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext, Pipeline
from edgeir.pipeline_search import MeasurementError, PipelineSearch
from edgeir.targets import Target, lookup
from edgeir.tuning.devices import LOCAL, parse_device
from edgeir.tuning.kernel_seconds import RecordedSeconds
from edgeir.tuning.measure import Measurer, ProcessMeasurer
from edgeir.tuning.measure_models import model_seconds
from edgeir.tuning.recorded import RecordedScheduler
from edgeir.tuning.recorded_passes import model_context, pipeline_record, recorded_passes
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import kernel_tasks
from edgeir.tuning.tuner import Progress, Tuner

SEARCH_SECONDS = 60.0
"""For choices above kernels, where the number of trials is the only limit."""

SEARCH_SHARE = 0.25
"""Share of the time that choices above kernels may take."""


@dataclass(frozen=True)
class TuneOptions:
    """What to tune, for what, and how long.

    Attributes:
        model: path, or a graph.
        target: preset, triple or `host`.
        shapes: input name → sizes.
        passes: pipeline text; the default pipeline if None.
        trials: measurements in the records, those of earlier runs included.
        minutes: of this run.
        threads: threads that kernels use.
        device: as `parse_device` reads it.
        records: the store's file; the default one if None.
        seed: of the search.
        strategy: how candidates are found.
        runners: devices that measure at the same time.
    """

    model: str | Path | Graph
    target: str = "host"
    shapes: Mapping[str, Sequence[int]] | None = None
    passes: str | None = None
    trials: int | None = None
    minutes: float | None = None
    threads: int = 1
    device: str = "local"
    records: Path | None = None
    seed: int = 0
    strategy: str = "model"
    runners: int = 1


@dataclass(frozen=True)
class TuneReport:
    """What tuning gave; seconds of one run of the whole model.

    Attributes:
        trials: measurements of the model's kernels in the records.
        predicted, predicted_default: sums over the tunable kernels, measured alone.
        measured, measured_default: of the whole model, both measured in turn, on the device if there is one.
        kernels: name, template, configuration and ratio to the default of each tuned kernel.
        passes: the pipeline that the model is compiled with.
    """

    trials: int
    predicted: float
    predicted_default: float
    measured: float
    measured_default: float
    kernels: tuple[dict[str, object], ...]
    passes: str


def tune(
    options: TuneOptions,
    on_start: Callable[[Tuner], None] | None = None,
    on_batch: Callable[[Progress], None] | None = None,
) -> TuneReport:
    """Tunes a model.

    Raises:
        EdgeIRError: the model cannot be compiled, or does not run whole; no limit is given, or the records cannot be
            written.
    """
    if options.trials is None and options.minutes is None:
        raise EdgeIRError("tuning needs a limit", expected="--trials N or --minutes M")
    parse_device(options.device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if options.device == LOCAL and options.threads > cores:
        raise EdgeIRError("too many threads", where="--threads", expected=f"at most {cores}", got=options.threads)
    target = lookup(options.target).with_cores(options.threads)
    graph = imported(options)
    limit = None if options.minutes is None else 60 * options.minutes
    end = None if limit is None else time.monotonic() + limit
    default = default_pipeline(target) if options.passes is None else Pipeline(options.passes)
    measurer = ProcessMeasurer(options.threads, device=options.device, runners=options.runners)
    with RecordStore(options.records) as store, measurer:
        pipeline = default
        if options.passes is None:
            seconds = SEARCH_SECONDS if limit is None else SEARCH_SHARE * limit
            pipeline = fastest_pipeline(graph, target, store, measurer, seconds, options.device)
        chosen = _run(pipeline, graph, target)
        tasks = kernel_tasks(chosen, target)
        tuner = Tuner(tasks, store, measurer, options.seed, options.strategy)
        if on_start is not None:
            on_start(tuner)
        tuner.run(options.trials, None if end is None else max(0.0, end - time.monotonic()), on_batch)
    with RecordStore(options.records) as store:
        tuned = build(chosen, target, scheduler=RecordedScheduler(store, target))
        plain = build(chosen if pipeline == default else _run(default, graph, target), target)
        measured, untuned = model_seconds(graph, [tuned, plain], target.cores, device=options.device)
    rows = tuple(
        {
            "name": item.task.name,
            "count": item.task.count,
            "template": item.search.best.template,
            "config": dict(item.search.best.config),
            "ratio": item.search.best_ratio,
            "trials": item.trials,
            "failures": item.failures,
        }
        for item in tuner.progress
    )
    return TuneReport(tuner.trials, tuner.seconds, tuner.default_seconds, measured, untuned, rows, str(pipeline))


def imported(options: TuneOptions) -> Graph:
    """The graph as imported, with static shapes."""
    model = options.model
    graph = model.copy() if isinstance(model, Graph) else load_model(model, options.shapes)
    require_static(graph)
    return graph


def fastest_pipeline(
    graph: Graph,
    target: Target,
    store: RecordStore,
    measurer: Measurer,
    seconds: float = SEARCH_SECONDS,
    device: str = LOCAL,
) -> Pipeline:
    """The pipeline that makes the model fastest: the recorded one, or what a search finds and a run of both confirms.

    Args:
        graph: as imported, with static shapes.
        target: the machine, with the threads to use.
        store: what was measured, and where measurements go.
        measurer: measures kernels.
        seconds: for the search.
        device: where whole models run, as `parse_device` reads it.
    """
    default = default_pipeline(target)
    if not store.count(model_context(graph, target)):
        try:
            found = PipelineSearch(graph, target, RecordedSeconds(store, measurer)).run(default, seconds)
        except MeasurementError:
            # Kernels may fail to be timed on a busy machine; the next run tries again.
            return default
        found_seconds, default_seconds = 1.0, 1.0
        if found != default:
            scheduler = RecordedScheduler(store, target)
            models = [build(_run(item, graph, target), target, scheduler=scheduler) for item in (found, default)]
            found_seconds, default_seconds = model_seconds(graph, models, target.cores, device=device)
        store.add([pipeline_record(graph, target, str(found), found_seconds, default_seconds)])
    recorded = recorded_passes(store, graph, target)
    return default if recorded is None else Pipeline(recorded)


def _run(pipeline: Pipeline, graph: Graph, target: Target) -> Graph:
    result = graph.copy()
    pipeline.run(result, PassContext(target=target))
    return result
