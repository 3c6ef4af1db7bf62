"""Metrics by name, and a model's metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from edgeir.errors import EdgeIRError
from edgeir.training.data import BatchSource, as_source, batch_length, to_device
from edgeir.training.losses import checked_labels
from edgeir.training.model_outputs import choose_output, graph_of, run_model
from edgeir.training.objective import OutputLoss

Metric = Callable[[torch.Tensor, torch.Tensor], float]
"""Of an output and targets of one batch: the sum over its samples."""


def correct(output: torch.Tensor, labels: torch.Tensor) -> float:
    """Samples whose largest output (axis 1) is at the label; positions of one sample are averaged."""
    hits = output.argmax(1) == checked_labels(output, labels)
    return float(hits.double().flatten(1).mean(1).sum() if hits.ndim > 1 else hits.sum())


def correct_among_five(output: torch.Tensor, labels: torch.Tensor) -> float:
    """Samples whose label is among the five largest outputs (axis 1)."""
    labels = checked_labels(output, labels)
    best = output.topk(min(5, output.shape[1]), dim=1).indices
    hits = (best == labels.unsqueeze(1)).any(1)
    return float(hits.double().flatten(1).mean(1).sum() if hits.ndim > 1 else hits.sum())


def squared_error(output: torch.Tensor, targets: torch.Tensor) -> float:
    """Squared error, averaged over the elements of each sample."""
    if output.shape != targets.shape:
        raise EdgeIRError("targets do not fit the output", expected=list(output.shape), got=list(targets.shape))
    return float((output.double() - targets).square().flatten(1).mean(1).sum())


METRICS: Mapping[str, Metric] = {"accuracy": correct, "top-5": correct_among_five, "mse": squared_error}


def find_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """Metrics by name.

    Raises:
        EdgeIRError: unknown name.
    """
    for name in names:
        if name not in METRICS:
            raise EdgeIRError("unknown metric", expected=", ".join(METRICS), got=name)
    return {name: METRICS[name] for name in names}


def evaluate_module(
    module: torch.nn.Module,
    data: Any,
    metrics: Sequence[str] = ("accuracy",),
    *,
    loss: OutputLoss | None = None,
    output: str | None = None,
    batch_size: int = 512,
    channels_last: bool = False,
) -> dict[str, float]:
    """A model's metrics over all of a data set, in evaluation mode; its mode is restored.

    Args:
        module: the model.
        data: as for `fit`.
        metrics: `accuracy`, `top-5`, `mse`.
        loss: its mean over the samples is added as `loss`.
        output: name of the output that metrics are about, where there are several.
        batch_size: for datasets and arrays.
        channels_last: whether images are handed over channels last in memory.

    Raises:
        EdgeIRError: no data, a batch or a label that does not fit, or an unknown metric.
    """
    functions = find_metrics(metrics)
    source = data if isinstance(data, BatchSource) else as_source(data, batch_size, shuffle=False)
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    sums: dict[str, float] = dict.fromkeys([*(["loss"] if loss is not None else []), *functions], 0.0)
    count = 0
    graph = graph_of(module)
    # Captured values stand among the outputs, so the only output needs its name.
    name_of_output = (
        graph.output_names[0] if output is None and graph is not None and len(graph.outputs) == 1 else output
    )
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            for inputs, targets in source.epoch(0):
                inputs, targets = to_device(inputs, device), to_device(targets, device)
                if channels_last:
                    inputs = images_channels_last(inputs)
                outputs = run_model(module, inputs, () if loss is None else loss.capture)
                length = batch_length(inputs)
                if loss is not None:
                    sums["loss"] += float(loss(outputs, targets)) * length
                for name, function in functions.items():
                    sums[name] += function(choose_output(outputs, name_of_output), targets)
                count += length
    finally:
        module.train(training)
    if not count:
        raise EdgeIRError("there is no data to evaluate on", got="0 samples")
    return {name: total / count for name, total in sums.items()}


def images_channels_last(inputs: Any) -> Any:
    """Tensors of four axes stored channels last, which convolutions on CPUs like; shapes stay."""
    if isinstance(inputs, torch.Tensor):
        return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
    if isinstance(inputs, Mapping):
        return {name: images_channels_last(item) for name, item in inputs.items()}
    return [images_channels_last(item) for item in inputs]
