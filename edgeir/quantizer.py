"""Post-training quantization: a float model and samples → a fake-quantized graph, and a report of what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeir.calibration_data import ImageOptions, Source, samples_from
from edgeir.compiler import load_model
from edgeir.errors import EdgeIRError
from edgeir.execution import CompiledGraph
from edgeir.ir import Graph, Node
from edgeir.ir.shapes import fix_shapes
from edgeir.passes.pipelines import simplification_pipeline
from edgeir.passes.quantization.calibration import EXECUTE, interpret
from edgeir.passes.quantization.equalize_cross_layer import EqualizeCrossLayer
from edgeir.passes.quantization.placement import Placement, plan
from edgeir.passes.quantization.quantize import METRIC, Quantize
from edgeir.passes.quantization.quantize_dynamic import QuantizeDynamic
from edgeir.passmanager import PassContext, Pipeline
from edgeir.quantization_report import QuantizationReport, compare
from edgeir.targets import Target, lookup

COMPILE_FROM = 64
"""With fewer samples, compiling a graph with all its intermediate values takes longer than interpreting it does."""

Metric = Callable[[Callable[[Mapping[str, Any]], Mapping[str, Any]]], float]

_PREPARE = "decompose-conv-transpose,canonicalize,fold-constants,common-subexpressions,dead-code"


@dataclass(frozen=True)
class QuantizationResult:
    """A quantized model.

    Attributes:
        graph: fake-quantized, of plain operators: `edgeir.compile` takes it, and `edgeir.export_onnx` writes it as QDQ.
        report: noise by layer and change of the outputs.
    """

    graph: Graph
    report: QuantizationReport


def quantize(
    model: str | Path | Graph,
    calibration: Source | None,
    *,
    target: str | Target = "host",
    bits: int = 8,
    scheme: str = "linear",
    observer: str = "percentile",
    placement: str = "portable",
    activations: str = "auto",
    activation_bits: int = 8,
    symmetric: bool = False,
    per_channel: bool = True,
    trainable: bool = False,
    skip: Sequence[str] = (),
    equalize: bool = False,
    compensate: bool | None = None,
    correct_bias: bool = False,
    max_drop: float | None = None,
    metric: Metric | None = None,
    dynamic: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    passes: str | Pipeline | None = None,
    images: ImageOptions | None = None,
    limit: int | None = None,
    evaluation: Source | None = None,
    compare_outputs: bool = True,
) -> QuantizationResult:
    """Quantize a model after training.

    Args:
        model: path of an ONNX file or of IR text, or a float graph (which stays as it is).
        calibration: samples of real inputs; see `edgeir.calibration_data.samples_from`. With `dynamic` they serve the
            comparison only, and None will do.
        target: decides the type of activations, and limits weights where its dot products could overflow.
        bits: of a weight: 8 or 4.
        scheme: of weights: `linear` or `log2`.
        observer: how ranges are found: `min-max`, `moving-average`, `percentile`, `entropy`, `mse`.
        placement: `portable` or `fused`; see `edgeir.passes.quantization.placement`.
        activations: `auto`, `uint8` or `int8`.
        activation_bits: 8 or 4.
        symmetric: whether 0 is the middle of activations' ranges.
        per_channel: a scale for each output channel of weights.
        trainable: whether float weights stay in the graph, for training with quantization.
        skip: operators or names that stay float.
        equalize: whether channels between layers are made equally large first (`equalize-cross-layer`).
        compensate: whether weights are rounded so that their errors make up for each other on the calibration samples
            (`compensate-rounding`); None: below 8 bits, unless `trainable`.
        correct_bias: whether biases make up for the mean error of rounded weights (`correct-bias`).
        max_drop: the most points of the metric that may be lost; layers return to a higher precision, the most harmful
            first, until that holds.
        metric: judges a network, given as a function from inputs to outputs, in points of which more are better;
            agreement with the float model on the calibration samples, in percent, if None.
        dynamic: only products by constant matrices become integer, each input being quantized over its own range as it
            comes (`quantize-dynamic`): for transformers and recurrent networks. `target`, `per_channel`, `shapes`,
            `passes` and those on the report apply.
        shapes: input name → sizes, where the model leaves dimensions open.
        passes: pipeline that prepares the float graph; the simplification pipeline if None.
        images: how pictures become inputs.
        limit: the most calibration samples to use.
        evaluation: samples for the report's comparison; the calibration samples if None.
        compare_outputs: whether to run both models for the report.

    Raises:
        EdgeIRError: the model or the samples cannot be read or do not fit, or an option is unknown.
    """
    machine = lookup(target) if isinstance(target, str) else target
    graph = model.copy() if isinstance(model, Graph) else load_model(model, shapes)
    if isinstance(model, Graph) and shapes:
        graph = fix_shapes(graph, shapes)
    if calibration is None and not dynamic:
        raise EdgeIRError("no calibration samples", hint="give samples, or dynamic=True, which needs none")
    samples = [] if calibration is None else samples_from(calibration, graph.inputs, images=images, limit=limit)
    execute = CompiledGraph if len(samples) >= COMPILE_FROM or max_drop is not None else interpret
    services: dict[str, Callable[..., Any]] = {EXECUTE: execute}
    if metric is not None:
        services[METRIC] = metric
    context = PassContext(target=machine, calibration=samples, services=services, keep_reproducer=False)
    prepare = simplification_pipeline(machine) + Pipeline(_PREPARE) if passes is None else passes
    (Pipeline(prepare) if isinstance(prepare, str) else prepare).run(graph, context)
    # First, so that layer by layer the float graph has the channels that the quantized one has.
    equalization = EqualizeCrossLayer(clip=placement == "fused")
    if equalize:
        Pipeline(str(equalization)).run(graph, context)
    original = graph.copy()
    options: dict[str, Any] = {
        "bits": bits,
        "scheme": scheme,
        "observer": observer,
        "placement": placement,
        "activations": activations,
        "activation_bits": activation_bits,
        "symmetric": symmetric,
        "per_channel": per_channel,
        "trainable": trainable,
        "compensate": "auto" if compensate is None else "yes" if compensate else "no",
        "correct_bias": correct_bias,
        "max_drop": max_drop,
        "skip": tuple(skip),
    }
    # Reading the pass back from its text checks the options.
    chosen = QuantizeDynamic(per_column=per_channel) if dynamic else Quantize(**options)
    pipeline = Pipeline(f"{chosen},common-subexpressions" if dynamic else str(chosen))
    pipeline.run(graph, context)
    settings = {
        "target": machine.name,
        "passes": f"{equalization},{pipeline}" if equalize else str(pipeline),
        "bits": bits,
        "scheme": scheme,
        "observer": observer,
        "placement": placement,
    }
    report = QuantizationReport(settings, calibration_samples=len(samples))
    if compare_outputs and (samples or evaluation is not None):
        held_out = samples if evaluation is None else samples_from(evaluation, original.inputs, images=images)
        run = CompiledGraph if len(held_out) >= COMPILE_FROM else interpret
        # Dynamic products have no values of their own names beside the float ones.
        named = [] if dynamic else layers_of(original, Quantize(**options).placement, skip)
        layers, outputs = compare(original, graph, named, held_out, run)
        report = QuantizationReport(settings, layers, outputs, len(samples), len(held_out))
    return QuantizationResult(graph, report)


def layers_of(graph: Graph, placement: Placement, skip: Sequence[str]) -> list[tuple[str, str]]:
    """For each convolution or product that is quantized: the names of its result and of its group's."""
    found: dict[Node, str] = {node: value.name for node, value in plan(graph, placement, skip).layers.items()}
    return [(node.output.name, found[node]) for node in graph.nodes if node in found]
