"""The rows of the compression table: each makes a network small in one way and judges it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import edgeir
from benchmarks.compression_table_measure import (
    Arrays,
    Row,
    accuracy,
    compare_latency,
    judge_compiled,
    judge_graph,
    logits_of,
)
from benchmarks.compression_table_plan import (
    AUGMENT,
    LAST_ROUND,
    LONGER,
    RECIPE,
    RECOVERY,
    SPARSE_RATE,
    SPARSITIES,
    STUDENT,
    STUDENT_LOSSES,
    Plan,
)
from edgeir.compress import compress
from edgeir.ir import Graph, load_graph, save_graph
from edgeir.passes.pipelines import simplification_pipeline
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import Target
from edgeir.training import GraphModule
from edgeir.training.augmentation import augmentation
from edgeir.training.distillation import Cohort, Distillation, MutualLearning
from edgeir.training.fit import fit
from edgeir.training.recipes import Distill, Recipe, RecipeData, Stage, Train, fixed
from edgeir.training.recipes.report import graph_report
from edgeir.training.recipes.services import calibration_samples, execute, gradients
from examples.fashion_mnist.networks import mobile_network

CALIBRATION = 256
PLACEMENT = "fused"
GLANCE = 1000
"""Test images that the recipe's own report looks at; the row has all of them."""

DROP = 0.5
"""Points of accuracy on labelled training images that the accuracy-driven mode may lose."""

METRIC_IMAGES = 1024
"""Those training images."""


@dataclass
class Setting:
    """What a row works on.

    Attributes:
        float_graph: the trained network, with an open batch.
        model: the same as an ONNX file.
        train, held_out, test: images and labels.
        plan: how much is trained.
        target: this machine, with the threads of the compiled networks.
        seed: of data order, augmentation, calibration samples and students.
        folder: where checkpoints and artifacts are kept; of this row.
        outputs: of the network that was judged last, on the test images.
    """

    float_graph: Graph
    model: Path
    train: Arrays
    held_out: Arrays
    test: Arrays
    plan: Plan
    target: Target
    seed: int
    folder: Path
    outputs: np.ndarray = field(init=False)

    def context(self, graph: Graph) -> PassContext:
        """With calibration samples and gradients, as the passes of a recipe see it."""
        samples, targets = calibration_samples(graph, self.train, CALIBRATION, self.seed)
        services: dict[str, Callable[..., Any]] = {
            "execute": execute,
            "gradients": gradients(samples, targets, "cross-entropy"),
        }
        return PassContext(target=self.target, calibration=samples, seed=self.seed, services=services)

    def accuracy_metric(self) -> Callable[[Callable[[Mapping[str, Any]], Mapping[str, Any]]], float]:
        """Judges a network for one image at a time by labelled training images, in percent."""
        fixed_graph = fixed(self.float_graph)
        samples, labels = calibration_samples(fixed_graph, self.train, METRIC_IMAGES, self.seed + 1000)
        output = fixed_graph.output_names[0]

        def metric(run: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> float:
            hits = [run(sample)[output].argmax() == label for sample, label in zip(samples, labels, strict=True)]
            return 100.0 * sum(map(float, hits)) / len(hits)

        return metric

    def passed(self, graph: Graph, passes: str) -> Graph:
        """A copy of a graph after passes."""
        graph = graph.copy()
        Pipeline(passes).run(graph, self.context(graph))
        return graph

    def judge(self, graph: Graph) -> Row:
        """What `judge_graph` finds on the test images, and the accuracy on the images held out (percent)."""
        row, self.outputs = judge_graph(graph, self.test)
        return {**row, "held_out": accuracy(logits_of(graph, self.held_out[0]), self.held_out[1])}

    def teacher(self) -> Graph:
        """The float network with batch norms folded, which answers the same in less time."""
        return self.passed(self.float_graph, str(simplification_pipeline()))

    def trained(
        self,
        graph: Graph,
        epochs: float,
        learning_rate: float,
        name: str,
        *,
        losses: Mapping[str, float] | None = None,
        batch_statistics: bool = True,
    ) -> Graph:
        """A graph after training; zeros stay. What was trained before is read from the folder.

        Args:
            graph: what to train.
            epochs: before the plan's scale.
            learning_rate: the highest.
            name: of the training in the folder.
            losses: weights of `Distillation` from the float network; none for the labels alone.
            batch_statistics: whether batch norms use the batch's statistics.
        """
        done = self.folder / f"{name}.graph"
        if done.exists():
            return load_graph(done)
        module = GraphModule(graph, batch_statistics=batch_statistics)
        module.mask_zeros()
        objective = None
        if losses is not None:
            answers_only = not any(losses.get(name) for name in ("feature", "attention"))
            teacher = GraphModule(self.teacher() if answers_only else self.float_graph, trainable=lambda value: False)
            objective = Distillation(module, teacher, seed=self.seed, **losses)  # pyright: ignore[reportArgumentType]
        options = self.plan.options(epochs, len(self.train[1]), learning_rate, self.seed)
        fit(
            *(module, self.train),
            objective=objective,
            options=options,
            augment=augmentation(AUGMENT),
            folder=self.folder / name,
            channels_last=True,
        )
        graph = module.to_graph()
        save_graph(graph, done)
        return graph


def float_network(setting: Setting) -> Row:
    """The float network as it is."""
    return setting.judge(setting.float_graph)


def _judged(setting: Setting, graph: Graph) -> Row:
    """A fake-quantized graph in torch, and compiled."""
    row = setting.judge(graph)
    compiled = judge_compiled(graph, setting.outputs, setting.test, setting.target, setting.folder / "model.edgeir")
    return {**row, "compiled": compiled}


def _after_training(setting: Setting, **options: Any) -> Row:
    graph = setting.float_graph
    samples, _ = calibration_samples(graph, setting.train, CALIBRATION, setting.seed)
    shapes = {value.name: value.type.static_shape for value in fixed(graph).inputs}
    result = edgeir.quantize(
        *(graph, samples), target=setting.target, placement=PLACEMENT, shapes=shapes, compare_outputs=False, **options
    )
    return _judged(setting, result.graph)


def _aware(setting: Setting, weights: str) -> Row:
    passes = f"{simplification_pipeline()},insert-qdq{{placement={PLACEMENT}}},quantize-weights{{{weights}}}"
    graph = setting.passed(setting.float_graph, passes)
    before = judge_graph(graph, setting.test)[0]["accuracy"]
    graph = setting.trained(*(graph, setting.plan.aware, 5e-4, "aware"), losses=RECOVERY, batch_statistics=False)
    return {**_judged(setting, graph), "accuracy_before_training": before}


def _pruned(setting: Setting, score: str, factor: float = 1.0) -> Row:
    graph = setting.passed(setting.float_graph, f"prune-channels{{target-macs=0.5,score={score}}}")
    before = judge_graph(graph, setting.test)[0]["accuracy"]
    graph = setting.trained(graph, setting.plan.prune * factor, 2e-3, "prune", losses=RECOVERY)
    return {**setting.judge(graph), "accuracy_before_training": before}


def _sparse(setting: Setting) -> Row:
    graph = setting.float_graph
    for number, ratio in enumerate(SPARSITIES):
        epochs = setting.plan.round * (LAST_ROUND if number == len(SPARSITIES) - 1 else 1)
        graph = setting.passed(graph, f"prune-weights{{ratio={ratio},scope=adaptive,score=l2}}")
        graph = setting.trained(graph, epochs, SPARSE_RATE, f"round-{number}", losses=RECOVERY)
    return setting.judge(graph)


def _student(setting: Setting, losses: Mapping[str, float] | None) -> Row:
    graph = mobile_network(seed=setting.seed + 100, **STUDENT)
    graph = setting.trained(graph, setting.plan.student, 4e-3, "student", losses=losses)
    return setting.judge(graph)


def _online(setting: Setting) -> Row:
    student = GraphModule(mobile_network(seed=setting.seed + 100, **STUDENT), batch_statistics=True)
    teacher = GraphModule(setting.float_graph, batch_statistics=True)
    cohort = Cohort([student, teacher])
    fit(
        *(cohort, setting.train),
        objective=MutualLearning(cohort),
        options=setting.plan.options(setting.plan.student, len(setting.train[1]), 4e-3, setting.seed),
        augment=augmentation(AUGMENT),
        folder=setting.folder / "online",
        channels_last=True,
    )
    peer = judge_graph(teacher.to_graph(), setting.test)[0]["accuracy"]
    return {**setting.judge(student.to_graph()), "accuracy_of_peer": peer}


def _recipe(setting: Setting) -> Row:
    teacher = setting.folder / "teacher.graph"
    if not teacher.exists():
        save_graph(setting.teacher(), teacher)
    distill = Distill(str(teacher), **RECOVERY)  # pyright: ignore[reportArgumentType]
    plan, samples = setting.plan, len(setting.train[1])
    rounding = f"{simplification_pipeline()},insert-qdq{{placement={PLACEMENT}}},quantize-weights{{trainable=true}}"
    stages = (
        Stage(
            "prune",
            (f"prune-channels{{target-macs={RECIPE['target_macs']},score=taylor}}",),
            Train(
                plan.options(plan.prune * RECIPE["prune_epochs_factor"], samples, 2e-3, setting.seed),
                augment=AUGMENT,
                batch_statistics=True,
                distill=distill,
            ),
        ),
        Stage(
            "quantize",
            (rounding,),
            Train(plan.options(plan.aware, samples, 2.5e-4, setting.seed), augment=AUGMENT, distill=distill),
        ),
    )
    recipe = Recipe(
        setting.float_graph,
        stages,
        threads=setting.target.cores,
        compile=False,
        calibration=CALIBRATION,
        seed=setting.seed,
    )
    folder = setting.folder / "recipe"
    glance = (setting.test[0][:GLANCE], setting.test[1][:GLANCE])
    report = compress(recipe, RecipeData(setting.train, glance), folder, latency=False)
    row = _judged(setting, load_graph(folder / "02-quantize" / "graph.txt"))
    row["stages"] = {stage.name: stage.metrics["accuracy"] * 100 for stage in report.stages}
    whole = graph_report("", fixed(setting.float_graph), {})
    row["times_smaller"] = whole.bytes / row["compiled"]["constant_bytes"]
    model = setting.folder / "float.onnx"
    shutil.copyfile(setting.model, model)
    row["latency"] = compare_latency(model, setting.folder / "model.edgeir", setting.target.cores)
    return row


ROWS: dict[str, Callable[[Setting], Row]] = {
    "float": float_network,
    "PTQ 8 bits": lambda s: _after_training(s, bits=8),
    "PTQ 4-bit weights": lambda s: _after_training(s, bits=4),
    "PTQ log2 4-bit weights": lambda s: _after_training(s, bits=4, scheme="log2"),
    "QAT 4-bit weights": lambda s: _aware(s, "bits=4,trainable=true"),
    "QAT log2 4-bit weights": lambda s: _aware(s, "bits=4,scheme=log2,trainable=true"),
    "pruned to 50 % MACs, l1": lambda s: _pruned(s, "l1"),
    "pruned to 50 % MACs, gradient": lambda s: _pruned(s, "gradient"),
    "pruned to 50 % MACs, gradient, longer": lambda s: _pruned(s, "gradient", LONGER),
    "full recipe": _recipe,
    "90 % sparse, iterative": _sparse,
    "student, plain": lambda s: _student(s, None),
    "student, response": lambda s: _student(s, STUDENT_LOSSES["response"]),
    "student, attention": lambda s: _student(s, STUDENT_LOSSES["attention"]),
    "student, feature": lambda s: _student(s, STUDENT_LOSSES["feature"]),
    "student, online": _online,
    "pruned to 50 % MACs, taylor": lambda s: _pruned(s, "taylor"),
    "PTQ 4-bit weights, accuracy-driven": lambda s: _after_training(
        s, bits=4, max_drop=DROP, metric=s.accuracy_metric(), correct_bias=True
    ),
}
"""Name of the row → what makes it."""

UNTRAINED = tuple(name for name in ROWS if name == "float" or name.startswith("PTQ"))
"""Rows that the plan of the trainings does not change."""
