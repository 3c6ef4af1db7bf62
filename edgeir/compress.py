"""Running a compression recipe: loading, compiling and measuring around `edgeir.training.recipes`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeir.compiler import compile, load_model
from edgeir.errors import ArtifactError
from edgeir.ir import Graph
from edgeir.layer_latency import LayerLatency
from edgeir.passes.pruning.costs import MEASURED_LATENCY
from edgeir.passmanager import example_inputs
from edgeir.runtime import Session
from edgeir.targets import Target, lookup
from edgeir.training.data import as_source
from edgeir.training.metrics import find_metrics
from edgeir.training.model_outputs import choose_output
from edgeir.training.open_batch import open_batch
from edgeir.training.recipes import (
    Machine,
    Recipe,
    RecipeData,
    RecipeReport,
    StageReport,
    fixed,
    read_recipe,
    run_recipe,
)

_REPEATS = 60


def compress_file(
    path: str | Path,
    folder: str | Path,
    *,
    latency: bool = True,
    progress: bool = False,
    on_stage: Callable[[str], None] | None = None,
) -> RecipeReport:
    """Runs the recipe of a TOML file; see `compress`.

    Raises:
        EdgeIRError: the recipe or its data cannot be read, or what `compress` raises.
    """
    recipe, read = read_recipe(path)
    return compress(recipe, read(), folder, latency=latency, progress=progress, on_stage=on_stage)


def compress(
    recipe: Recipe,
    data: RecipeData,
    folder: str | Path,
    *,
    latency: bool = True,
    progress: bool = False,
    on_stage: Callable[[str], None] | None = None,
) -> RecipeReport:
    """Runs a recipe to an artifact and a report; started again, it goes on where it stood.

    Args:
        recipe: the recipe.
        data: its data; the artifact is judged by the test data where those are arrays.
        folder: of stages, artifact and `report.json`.
        latency: whether each stage's graph is compiled and timed on this machine.
        progress: whether training shows its progress.
        on_stage: told what begins.

    Raises:
        EdgeIRError: the recipe is wrong, or a stage fails.
    """
    target = lookup(recipe.target)
    if recipe.threads is not None:
        target = replace(target, cores=recipe.threads)
    machine = Machine(
        target=target,
        services=lambda graph: {MEASURED_LATENCY: _LazyLatency(graph, target)},
        latency=(lambda graph: compiled_latency(graph, target)) if latency else None,
        deploy=lambda graph, path: deploy(graph, path, target, data.test, recipe),
    )
    original = recipe.model if isinstance(recipe.model, Graph) else load_model(recipe.model)
    if any(stage.train is not None for stage in recipe.stages):
        original = open_batch(original)
    return run_recipe(recipe, data, folder, machine, original=original, progress=progress, on_stage=on_stage)


def compiled_latency(graph: Graph, target: Target) -> float:
    """Seconds of one run of a graph with fixed shapes, compiled for this machine: the least of several.

    Raises:
        EdgeIRError: the graph cannot be compiled, or the target is another machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        artifact = compile(graph, target, output=Path(folder) / "model.edgeir", golden_inputs=example_inputs(graph))
        return session_latency(Session(artifact.path))


def session_latency(session: Session) -> float:
    """Seconds of one run of an artifact on random inputs: the least of several, warmed up."""
    rng = np.random.default_rng(0)
    inputs = {
        spec.name: (rng.normal(size=spec.shape) if "float" in spec.dtype else np.zeros(spec.shape)).astype(spec.dtype)
        for spec in session.inputs
    }
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        session.run(inputs)
        times.append(time.perf_counter() - start)
    return min(times)


def deploy(graph: Graph, path: Path, target: Target, test: Any, recipe: Recipe) -> StageReport:
    """Compiles a graph and judges the artifact by running it on the test data.

    Raises:
        EdgeIRError: the graph cannot be compiled.
    """
    artifact = compile(graph, target, output=path)
    manifest = artifact.manifest
    report = StageReport("compiled", {}, bytes=manifest.constant_bytes, code_bytes=manifest.code_bytes)
    try:
        session = Session(artifact.path)
    except ArtifactError:
        # Made for another machine: compiled here, judged there.
        return report
    report.metrics = session_metrics(session, test, recipe.metrics, recipe.output)
    report.latency = session_latency(session)
    return report


def session_metrics(session: Session, data: Any, metrics: Sequence[str], output: str | None = None) -> dict[str, float]:
    """An artifact's metrics over a data set; the last batch is filled up with its first sample.

    Raises:
        EdgeIRError: no data, or data that does not fit.
    """
    functions = find_metrics(metrics)
    names = [spec.name for spec in session.inputs]
    batch = session.inputs[0].shape[0]
    sums, count = dict.fromkeys(functions, 0.0), 0
    for inputs, targets in as_source(data, batch, shuffle=False).epoch(0):
        named = inputs if isinstance(inputs, Mapping) else {names[0]: inputs}
        arrays = {name: np.asarray(value) for name, value in named.items()}
        length = len(targets)
        if length < batch:
            arrays = {
                name: np.concatenate([array, np.repeat(array[:1], batch - length, 0)]) for name, array in arrays.items()
            }
        outputs = {name: torch.from_numpy(array)[:length] for name, array in session.run(arrays).items()}
        for name, function in functions.items():
            sums[name] += function(choose_output(outputs, output), targets)
        count += length
    return {name: total / count for name, total in sums.items()}


class _LazyLatency:
    """The service "measured-latency", which measures when it is first asked."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self._graph, self._target = graph, target
        self._measured: LayerLatency | None = None

    def __call__(self, *arguments: Any) -> float:
        if self._measured is None:
            self._measured = LayerLatency(fixed(self._graph), self._target)
        return self._measured(*arguments)
