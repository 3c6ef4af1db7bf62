"""Runs recipes: every finished stage is stored, an unfinished one goes on from its checkpoint."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, graph_statistics, load_graph, print_graph, save_graph
from edgeir.ir.dims import SymbolicDim
from edgeir.passmanager import PassContext, Pipeline
from edgeir.training.augmentation import augmentation
from edgeir.training.checkpoints import partial_name, write_atomically
from edgeir.training.distillation import Distillation
from edgeir.training.fit import fit
from edgeir.training.metrics import evaluate_module
from edgeir.training.module import GraphModule
from edgeir.training.recipes.recipe import Recipe, RecipeData, Stage, Train, as_json
from edgeir.training.recipes.report import RecipeReport, StageReport, graph_report
from edgeir.training.recipes.services import calibration_samples, execute, gradients

GRAPH, PASSED, DONE, TRAINING, REPORT = "graph.txt", "passed.txt", "stage.json", "training", "report.json"

Deploy = Callable[[Graph, Path], StageReport]
"""Compiles a graph with fixed shapes into a folder, and reports the artifact: metrics, bytes, latency."""

Latency = Callable[[Graph], float]
"""Seconds of one run of a graph with fixed shapes, compiled."""

OnStage = Callable[[str], None]
"""Told what begins."""


@dataclass
class Machine:
    """What a recipe needs from rooms above this one.

    Attributes:
        target: what passes see as target; None for none.
        services: makes further services for the passes of a stage from the graph before them, by name.
        latency: measures graphs; None to leave latencies out.
        deploy: makes the artifact; None to make none.
    """

    target: Any = None
    services: Callable[[Graph], Mapping[str, Callable[..., Any]]] | None = None
    latency: Latency | None = None
    deploy: Deploy | None = None


def run_recipe(
    recipe: Recipe,
    data: RecipeData,
    folder: str | Path,
    machine: Machine | None = None,
    *,
    original: Graph | None = None,
    progress: bool = False,
    on_stage: OnStage | None = None,
) -> RecipeReport:
    """Runs a recipe's stages, or what is left of them.

    A stage is stored under a key of the model, the data and all that the recipe says up to it: killed and started
    again, or changed in a later place, a recipe repeats nothing that it has done already.

    Args:
        recipe: the recipe.
        data: its data.
        folder: where stages, the artifact and `report.json` are kept; of this recipe alone.
        machine: target, latency and compiler; without it no artifact is made.
        original: the recipe's model, where it is a path.
        progress: whether training shows its progress.
        on_stage: told what begins.

    Raises:
        EdgeIRError: the recipe is wrong, or a pass, a training or the compiler fails; the stage is named.
    """
    return _Engine(recipe, data, Path(folder), machine or Machine(), original, progress, on_stage).run()


def fixed(graph: Graph, batch: int = 1) -> Graph:
    """A graph with its symbolic dimensions fixed to a batch size (the graph itself if there are none).

    Raises:
        EdgeIRError: another dimension than the first one of an input is symbolic.
    """
    symbols: dict[str, int] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.type.shape):
            if isinstance(dim, SymbolicDim):
                if axis:
                    raise EdgeIRError("only the batch may be left open", got=repr(value), hint="fix the model's shapes")
                symbols[str(dim)] = batch
    return graph.bind(symbols) if symbols else graph


class _Engine:
    def __init__(
        self,
        recipe: Recipe,
        data: RecipeData,
        folder: Path,
        machine: Machine,
        original: Graph | None,
        progress: bool,
        on_stage: OnStage | None,
    ) -> None:
        if original is None:
            if not isinstance(recipe.model, Graph):
                raise EdgeIRError("the recipe's model is not loaded", got=str(recipe.model), hint="pass original=…")
            original = recipe.model
        self.recipe, self.data, self.folder, self.machine = recipe, data, folder, machine
        self.stages = recipe.rounds()
        self.last_rounds = {stage.rounds()[-1].name: stage.name for stage in recipe.stages}
        self.progress, self.announce = progress, on_stage or (lambda text: None)
        self.graphs = {"original": original}
        self.report = RecipeReport()

    def run(self) -> RecipeReport:
        key = self._first_key()
        graph = self.graphs["original"]
        self._stage(0, Stage("original"), key, graph)
        for number, stage in enumerate(self.stages, 1):
            key = _digest(key, json.dumps(as_json(stage)), self._teacher_key(stage))
            try:
                graph = self._stage(number, stage, key, graph)
            except EdgeIRError as error:
                where = f"stage {stage.name!r}" + (f", {error.where}" if error.where else "")
                raise type(error)(
                    error.what,
                    where=where,
                    expected=error.expected,
                    got=error.got,
                    hint=error.hint,
                    details=error.details,
                ) from error
            self.graphs[stage.name] = graph
            if stage.name in self.last_rounds:
                self.graphs[self.last_rounds[stage.name]] = graph
        if self.recipe.compile and self.machine.deploy is not None:
            self._compile(_digest(key, "compile", str(self.recipe.batch)), graph)
        document = {"recipe": as_json(self.recipe), **self.report.to_dict()}
        write_atomically(self.folder / REPORT, (json.dumps(document, indent=2) + "\n").encode())
        return self.report

    # One stage

    def _stage(self, number: int, stage: Stage, key: str, graph: Graph) -> Graph:
        folder = self._folder(number, stage.name, key)
        done = folder / DONE
        if done.exists():
            self.report.stages.append(StageReport(**json.loads(done.read_text(encoding="utf-8"))))
            return load_graph(folder / GRAPH)
        start = time.monotonic()
        self.announce(stage.name)
        epochs = 0
        if stage.passes:
            graph = self._passed(folder, stage.passes[0], graph)
        if stage.train is not None:
            graph, epochs = self._trained(folder, stage.train, graph)
        metrics = self._evaluate(graph)
        save_graph(graph, folder / GRAPH)
        report = graph_report(stage.name, fixed(graph), metrics)
        if self.machine.latency is not None:
            try:
                report.latency = self.machine.latency(fixed(graph, self.recipe.batch))
            except EdgeIRError as error:
                self.report.notes.append(f"{stage.name}: no latency: {error.what}")
        report.seconds, report.epochs = time.monotonic() - start, epochs
        # The last file to be written says that all others are whole.
        write_atomically(done, json.dumps(report.to_dict()).encode())
        self.report.stages.append(report)
        return graph

    def _passed(self, folder: Path, text: str, graph: Graph) -> Graph:
        marker = folder / "passed.json"
        if marker.exists():
            return load_graph(folder / PASSED)
        graph = graph.copy()
        samples, targets = calibration_samples(graph, self.data.train, self.recipe.calibration, self.recipe.seed)
        services = {
            "execute": execute,
            "gradients": gradients(samples, targets, self._loss(), self.recipe.output),
            **(self.machine.services(graph.copy()) if self.machine.services is not None else {}),
        }
        context = PassContext(
            target=self.machine.target, calibration=samples or None, seed=self.recipe.seed, services=services
        )
        report = Pipeline(text).run(graph, context)
        save_graph(graph, folder / PASSED)
        write_atomically(marker, json.dumps({"passes": text, "table": str(report)}).encode())
        return graph

    def _trained(self, folder: Path, train: Train, graph: Graph) -> tuple[Graph, int]:
        module = GraphModule(graph, learned_scales=train.learned_scales, batch_statistics=train.batch_statistics)
        if train.keep_zeros:
            module.mask_zeros()
        objective = None
        if train.distill is not None:
            distill = train.distill
            objective = Distillation(
                module,
                GraphModule(self._teacher(distill.teacher), trainable=lambda value: False),
                train.loss,
                hard=distill.hard,
                response=distill.response,
                temperature=distill.temperature,
                feature=distill.feature,
                attention=distill.attention,
                pairs=distill.pairs,
                output=self.recipe.output,
                seed=train.options.seed,
            )
        result = fit(
            *(module, self.data.train),
            loss=train.loss,
            objective=objective,
            options=train.options,
            validation=self.data.validation,
            metrics=self.recipe.metrics,
            output=self.recipe.output,
            augment=augmentation(train.augment),
            folder=folder / TRAINING,
            progress=self.progress,
            channels_last=self.recipe.channels_last,
        )
        return module.to_graph(), result.epochs

    def _evaluate(self, graph: Graph) -> dict[str, float]:
        module = GraphModule(graph, trainable=lambda value: False)
        return evaluate_module(
            *(module, self.data.test, self.recipe.metrics),
            output=self.recipe.output,
            channels_last=self.recipe.channels_last,
        )

    def _compile(self, key: str, graph: Graph) -> None:
        assert self.machine.deploy is not None
        folder = self._folder(len(self.stages) + 1, "compiled", key)
        done, artifact = folder / DONE, folder / "artifact"
        if done.exists():
            report = StageReport(**json.loads(done.read_text(encoding="utf-8")))
        else:
            self.announce("compile")
            start = time.monotonic()
            graph = fixed(graph, self.recipe.batch)
            report = self.machine.deploy(graph, artifact)
            report.macs = graph_statistics(graph).macs // max(1, self.recipe.batch)
            report.seconds = time.monotonic() - start
            write_atomically(done, json.dumps(report.to_dict()).encode())
        self.report.stages.append(report)
        self.report.artifact = str(artifact)

    # Teachers, folders, keys

    def _teacher(self, name: str) -> Graph:
        return self.graphs[name] if name in self.graphs else load_graph(name)

    def _teacher_key(self, stage: Stage) -> str:
        """Earlier stages are part of the key already; a file is not."""
        distill = stage.train.distill if stage.train is not None else None
        if distill is None or distill.teacher in self.graphs:
            return ""
        return _graph_digest(load_graph(distill.teacher))

    def _loss(self) -> str:
        return next((stage.train.loss for stage in self.stages if stage.train is not None), "cross-entropy")

    def _folder(self, number: int, name: str, key: str) -> Path:
        """The stage's folder, emptied if it is another run's."""
        folder = self.folder / f"{number:02d}-{name}"
        marker = folder / "key"
        if folder.exists():
            known = marker.read_text(encoding="utf-8") if marker.exists() else None
            if known == key:
                return folder
            if known is None and any(item.name != partial_name(marker) for item in folder.iterdir()):
                raise EdgeIRError(
                    "a stage's folder holds something else", where=str(folder), hint="choose another folder"
                )
            shutil.rmtree(folder)
        write_atomically(marker, key.encode())
        return folder

    def _first_key(self) -> str:
        recipe = self.recipe
        rest = [recipe.metrics, recipe.output, recipe.calibration, recipe.seed, recipe.target, recipe.channels_last]
        return _digest(
            _graph_digest(self.graphs["original"]),
            *(_data_digest(part) for part in (self.data.train, self.data.test, self.data.validation)),
            json.dumps(as_json(rest)),
        )


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _graph_digest(graph: Graph) -> str:
    return _digest(print_graph(graph))


def _data_digest(data: Any) -> str:
    """Of arrays; other data is known by its type and length alone."""
    if not isinstance(data, tuple | list):
        return f"{type(data).__name__} {len(data) if hasattr(data, '__len__') else ''}"
    digest = hashlib.blake2b()
    for part in data:
        for name, array in sorted(part.items()) if isinstance(part, Mapping) else [("", part)]:
            array = np.ascontiguousarray(np.asarray(array))
            digest.update(f"{name}{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
