"""Tuning a model: import, passes, the tuner, and the whole model's latency before and after."""

from __future__ import annotations

import os
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
from edgeir.targets import Target, lookup
from edgeir.tuning.devices import DeviceAddress
from edgeir.tuning.measure import ProcessMeasurer
from edgeir.tuning.measure_models import model_seconds
from edgeir.tuning.recorded import RecordedScheduler
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import kernel_tasks
from edgeir.tuning.tuner import Progress, Tuner


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
        device: `local` or `rpc://…`.
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
        measured, measured_default: of the whole model, both measured in turn; None where it was not run.
        kernels: name, template, configuration and ratio to the default of each tuned kernel.
    """

    trials: int
    predicted: float
    predicted_default: float
    measured: float | None
    measured_default: float | None
    kernels: tuple[dict[str, object], ...]


def tune(
    options: TuneOptions,
    on_start: Callable[[Tuner], None] | None = None,
    on_batch: Callable[[Progress], None] | None = None,
) -> TuneReport:
    """Tunes a model.

    Raises:
        EdgeIRError: the model cannot be compiled, no limit is given, or the records cannot be written.
    """
    if options.trials is None and options.minutes is None:
        raise EdgeIRError("tuning needs a limit", expected="--trials N or --minutes M")
    DeviceAddress.parse(options.device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    local = options.device == "local"
    if local and options.threads > cores:
        raise EdgeIRError("too many threads", where="--threads", expected=f"at most {cores}", got=options.threads)
    target = lookup(options.target).with_cores(options.threads)
    graph = optimized(options, target)
    tasks = kernel_tasks(graph, target)
    measurer = ProcessMeasurer(options.threads, device=options.device, runners=options.runners)
    with RecordStore(options.records) as store, measurer:
        tuner = Tuner(tasks, store, measurer, options.seed, options.strategy)
        if on_start is not None:
            on_start(tuner)
        seconds = None if options.minutes is None else 60 * options.minutes
        tuner.run(options.trials, seconds, on_batch)
    with RecordStore(options.records) as store:
        measured, default = whole_model(graph, target, store) if local else (None, None)
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
    return TuneReport(tuner.trials, tuner.seconds, tuner.default_seconds, measured, default, rows)


def optimized(options: TuneOptions, target: Target) -> Graph:
    """The graph after its passes, with static shapes."""
    model = options.model
    graph = model.copy() if isinstance(model, Graph) else load_model(model, options.shapes)
    require_static(graph)
    pipeline = default_pipeline(target) if options.passes is None else Pipeline(options.passes)
    pipeline.run(graph, PassContext(target=target))
    return graph


def whole_model(graph: Graph, target: Target, store: RecordStore) -> tuple[float, float]:
    """Seconds of one run of the model as tuned, and untuned."""
    tuned = build(graph, target, scheduler=RecordedScheduler(store, target))
    seconds = model_seconds(graph, [tuned, build(graph, target)], target.cores)
    return seconds[0], seconds[1]
