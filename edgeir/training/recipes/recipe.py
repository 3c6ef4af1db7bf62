"""A compression recipe: a model, and the stages that make it small."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.passmanager import Pipeline
from edgeir.training.fit_options import FitOptions
from edgeir.training.layer_pairs import Pair

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True)
class Distill:
    """What a stage's training learns from a teacher; see `edgeir.training.distillation.Distillation`.

    Attributes:
        teacher: `original` (the recipe's model), the name of an earlier stage or round, or the path of a graph's text.
        hard, response, temperature, feature, attention, pairs: as there.
    """

    teacher: str = "original"
    hard: float = 0.1
    response: float = 0.9
    temperature: float = 4.0
    feature: float = 0.0
    attention: float = 0.0
    pairs: tuple[Pair, ...] | None = None


@dataclass(frozen=True)
class Train:
    """How a stage trains.

    Attributes:
        options: epochs, optimizer, schedule and so on.
        loss: name of the loss.
        augment: names of augmentations: `flip`, `shift=N`, `erase=N`.
        batch_statistics: whether batch norms use the batch's statistics, as training from scratch needs.
        learned_scales: whether the scales of fake quantization are trained too (LSQ).
        keep_zeros: whether weights that are zero stay zero, as pruned weights must.
        distill: learn from a teacher as well.
    """

    options: FitOptions
    loss: str = "cross-entropy"
    augment: tuple[str, ...] = ()
    batch_statistics: bool = False
    learned_scales: bool = False
    keep_zeros: bool = True
    distill: Distill | None = None


@dataclass(frozen=True)
class Stage:
    """Passes, then training; either may be absent.

    Attributes:
        name: of letters, digits, `_`, `-` and `.`; a folder is called so.
        passes: pipelines as text. Several are rounds: each is run, and followed by the training.
        train: the training; None for none.
    """

    name: str
    passes: tuple[str, ...] = ()
    train: Train | None = None

    def rounds(self) -> list[Stage]:
        """The stage as stages of one pipeline each."""
        if len(self.passes) < 2:
            return [self]
        return [Stage(f"{self.name}-{n}", (text,), self.train) for n, text in enumerate(self.passes, 1)]


@dataclass(frozen=True)
class Recipe:
    """A model and what is done to it.

    Attributes:
        model: a graph, or the path of an ONNX file or of IR text.
        stages: one after another.
        target: the machine that passes and the compiler work for, by name.
        threads: of the compiled model; the target's cores if None.
        compile: whether the last graph is compiled into an artifact.
        metrics: of the test data; the first one stands in the table.
        output: name of the output that loss and metrics are about, where there are several.
        calibration: training samples that passes may look at.
        batch: samples in a batch of the compiled model, where the graph leaves that open.
        seed: of the calibration samples.
        channels_last: whether images are stored channels last while training, which is faster on CPUs.
    """

    model: Graph | str | Path
    stages: tuple[Stage, ...] = ()
    target: str = "host"
    threads: int | None = None
    compile: bool = True
    metrics: tuple[str, ...] = ("accuracy",)
    output: str | None = None
    calibration: int = 128
    batch: int = 1
    seed: int = 0
    channels_last: bool = True

    def rounds(self) -> tuple[Stage, ...]:
        """All stages, each with one pipeline at most.

        Raises:
            EdgeIRError: there are none, a name is bad or used twice, a stage does nothing, a pipeline is no pipeline,
                or a teacher is not known by then.
        """
        if not self.stages:
            raise EdgeIRError("a recipe needs stages", expected="at least one [[stage]]")
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise EdgeIRError("two stages have one name", got=name)
        stages = [single for stage in self.stages for single in stage.rounds()]
        last = {stage.rounds()[-1].name: stage.name for stage in self.stages}
        known = {"original"}
        for stage in stages:
            where = f"stage {stage.name!r}"
            if not _NAME.match(stage.name):
                raise EdgeIRError("not a name for a stage", expected="letters, digits, _ - .", got=stage.name)
            if stage.name in known:
                raise EdgeIRError("two stages have one name", got=stage.name)
            if not stage.passes and stage.train is None:
                raise EdgeIRError("a stage does nothing", where=where, expected="passes, epochs or steps")
            for text in stage.passes:
                Pipeline(text)
            teacher = stage.train.distill.teacher if stage.train is not None and stage.train.distill else "original"
            if teacher not in known and not Path(teacher).is_file():
                raise EdgeIRError("no such teacher", where=where, expected=", ".join(sorted(known)), got=teacher)
            known |= {stage.name, last.get(stage.name, stage.name)}
        return tuple(stages)


def as_json(item: Any) -> Any:
    """A dataclass as what JSON can hold, for keys and reports."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {entry.name: as_json(getattr(item, entry.name)) for entry in dataclasses.fields(item)}
    if isinstance(item, tuple | list):
        return [as_json(entry) for entry in item]
    return item if isinstance(item, str | int | float | bool | None) else str(item)


@dataclass
class RecipeData:
    """The data of a recipe; each as for `fit`.

    Attributes:
        train: to learn from. Arrays (inputs, targets), where passes need calibration samples.
        test: what every stage is judged by.
        validation: looked at after every epoch, for early stopping and the best epoch.
    """

    train: Any
    test: Any
    validation: Any = None
