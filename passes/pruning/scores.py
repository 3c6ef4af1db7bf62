"""How much a channel matters: norms of filters, activations, gradients.

Scores of a group are summed over its members. Norms are taken of the producers' filters: s = Σ|w| (l1), s = √Σw² (l2),
s = Σ|w|·w² (weighted). Of a channel's output y: s = (1/N) Σ|y| (activation), s = (1/N) Σ‖∂L/∂y‖ (gradient), and the
first-order Taylor expansion s = (1/N) Σ|y·∂L/∂y| (taylor; Molchanov et al., "Pruning Convolutional Neural Networks for
Resource Efficient Inference", ICLR 2017), N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Pattern, Value
from edgeir.ir.evaluate import check_inputs, evaluate
from edgeir.passes.pruning.channel_axes import ChannelAxis, ChannelSpace, Producer
from edgeir.passes.pruning.coupling import constant_array
from edgeir.passmanager import PassContext

Score = Literal["l1", "l2", "weighted", "activation", "gradient", "taylor"]
Sample = Mapping[str, np.ndarray]

GradientService = Callable[[Graph, Sequence[str], Sequence[Sample]], Iterable[Mapping[str, tuple[Any, Any]]]]
"""The service "gradients": (graph, names of values, samples) → for every sample, name → (y, ∂L/∂y), arrays of the
value's shape; the loss L is the service's."""

ExecuteService = Callable[[Graph], Callable[[Sample], Mapping[str, np.ndarray]]]
"""The service "execute": a graph → a function from inputs to outputs, both by name."""

EXECUTE, GRADIENTS = "execute", "gradients"


def group_scores(graph: Graph, spaces: Sequence[ChannelSpace], score: Score, context: PassContext) -> list[np.ndarray]:
    """The score of every group: for each space float64 (groups).

    Args:
        graph: the graph that the spaces are of.
        spaces: coupled channels.
        score: which one.
        context: holds calibration data (activation, gradient, taylor) and services.

    Raises:
        EdgeIRError: calibration data or a service is missing, or data does not fit the graph.
    """
    if score in ("l1", "l2", "weighted"):
        return [_summed(space, [_filter_score(item, score) for item in space.producers]) for space in spaces]
    samples = context.require_calibration(f"prune-channels{{score={score}}}")
    for sample in samples:
        _check_sample(graph, sample)
    measured = {item.output: neuron(item) for space in spaces for item in space.producers}
    if score == "activation":
        found = _activations(graph, list(measured.values()), samples, context)
    else:
        service: GradientService = context.require_service(GRADIENTS, f"prune-channels{{score={score}}}")
        found = _gradients(graph, list(measured.values()), samples, service, score)
    result = []
    for space in spaces:
        pairs = [(measured[item.output], found[measured[item.output]]) for item in space.producers]
        result.append(_summed(space, pairs))
    return result


def _summed(space: ChannelSpace, parts: Sequence[tuple[ChannelAxis, np.ndarray]]) -> np.ndarray:
    total = np.zeros(space.count)
    for axis, scores in parts:
        np.add.at(total, space.labels[axis], scores)
    if not np.isfinite(total).all():
        raise EdgeIRError("scores are not finite", where=space.name, expected="finite weights and activations")
    return total


def _filter_score(producer: Producer, score: Score) -> tuple[ChannelAxis, np.ndarray]:
    weight = producer.weight
    array = np.abs(constant_array(weight.value).astype(np.float64))
    others = tuple(axis for axis in range(array.ndim) if axis != weight.axis)
    if score == "l1":
        scores = array.sum(axis=others)
    elif score == "l2":
        scores = np.sqrt((array * array).sum(axis=others))
    else:
        scores = (array**3).sum(axis=others)
    groups = producer.node.attributes.get("groups", 1)
    if producer.node.op == "conv_transpose" and groups > 1:
        # The weights hold the outputs of one group; every group has the same number.
        size = producer.output.size
        return producer.output, _transposed_groups(array, groups, size, score)
    return producer.output, scores


def _transposed_groups(array: np.ndarray, groups: int, size: int, score: Score) -> np.ndarray:
    split = array.reshape(groups, array.shape[0] // groups, array.shape[1], -1)
    power = {"l1": 1, "l2": 2, "weighted": 3}[score]
    scores = (split**power).sum(axis=(1, 3)).reshape(size)
    return np.sqrt(scores) if score == "l2" else scores


def neuron(producer: Producer) -> ChannelAxis:
    """Where a layer's output is measured: after the elementwise operators with constants that directly follow it."""
    axis = producer.output
    while axis.value.use_count == 1 and not axis.value.is_output:
        node, _ = axis.value.uses[0]
        others = [value for value in node.present_inputs if value is not axis.value]
        if node.definition.pattern is not Pattern.ELEMENTWISE or not all(value.is_constant for value in others):
            break
        if node.output.type.rank != axis.value.type.rank or node.output.type.dtype != axis.value.type.dtype:
            break
        axis = ChannelAxis(node.output, axis.axis)
    return axis


def _check_sample(graph: Graph, sample: Sample) -> None:
    try:
        check_inputs(graph, sample)
    except EdgeIRError as error:
        raise EdgeIRError(
            "calibration data does not fit the graph",
            where="; ".join(part for part in (error.what, error.where) if part),
            expected=error.expected,
            got=error.got,
        ) from None


def _activations(
    graph: Graph, axes: Sequence[ChannelAxis], samples: Sequence[Sample], context: PassContext
) -> dict[ChannelAxis, np.ndarray]:
    """Mean absolute output of every channel, over samples and positions."""
    totals = {axis: np.zeros(axis.size) for axis in axes}
    by_name: dict[str, list[ChannelAxis]] = {}
    for axis in totals:
        by_name.setdefault(axis.value.name, []).append(axis)

    def observe(value: Value, array: np.ndarray) -> None:
        for axis in by_name.get(value.name, ()):
            wide = np.abs(array.astype(np.float64))
            totals[axis] += wide.mean(axis=tuple(i for i in range(wide.ndim) if i != axis.axis))

    service: ExecuteService | None = context.services.get(EXECUTE)
    if service is None:
        for sample in samples:
            evaluate(graph, sample, observe)
    else:
        watched = graph.copy()
        values = {name: watched.value(name) for name in by_name}
        watched.set_outputs(values)
        run = service(watched)
        for sample in samples:
            for name, array in run(sample).items():
                observe(values[name], array)
    return {axis: total / len(samples) for axis, total in totals.items()}


def _gradients(
    graph: Graph, axes: Sequence[ChannelAxis], samples: Sequence[Sample], service: GradientService, score: Score
) -> dict[ChannelAxis, np.ndarray]:
    names = list(dict.fromkeys(axis.value.name for axis in axes))
    totals = {axis: np.zeros(axis.size) for axis in axes}
    count = 0
    for found in service(graph, names, samples):
        count += 1
        for axis, total in totals.items():
            if axis.value.name not in found:
                raise EdgeIRError("the service 'gradients' left out a value", got=", ".join(found), expected=axis.value)
            y, gradient = (np.asarray(array, np.float64) for array in found[axis.value.name])
            if y.shape != gradient.shape or y.ndim != axis.value.type.rank or y.shape[axis.axis] != axis.size:
                raise EdgeIRError(
                    "the service 'gradients' gave arrays of another shape",
                    where=f"%{axis.value.name}",
                    expected=axis.value.type,
                    got=f"{list(y.shape)} and {list(gradient.shape)}",
                )
            # Rows of the first axis are examples of their own.
            examples = () if axis.axis == 0 else (0,)
            others = tuple(i for i in range(y.ndim) if i not in (*examples, axis.axis))
            if score == "gradient":
                rows = np.sqrt((gradient * gradient).sum(axis=others))
            else:
                # The effect of the whole channel: products are summed before the magnitude is taken.
                rows = np.abs((y * gradient).sum(axis=others))
            total += rows.mean(axis=examples)
    if count != len(samples):
        raise EdgeIRError("the service 'gradients' gave too few samples", expected=len(samples), got=count)
    return {axis: total / count for axis, total in totals.items()}
