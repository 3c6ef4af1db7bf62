"""Adds to a layer's bias what rounding its weights takes from the mean of its output.

    %q = quantize(%w, %s, %z) : int8[8, 3, 3, 3]
    %d = dequantize(%q, %s, %z) : float32[8, 3, 3, 3]
    %y = conv(%x, %d, %b) {…} : float32[1, 8, 8, 8]

becomes the same with %b + E[conv(%x, %w − %d)] for each output channel, the mean over samples and positions.
Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV
2019, section 4.2, with the inputs that the quantized network has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Node
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.evaluate import evaluate_node
from edgeir.passes.folding.channels import bias_of, channel_axis
from edgeir.passes.quantization.calibration import check_samples, executor
from edgeir.passes.quantization.placement import INTEGER_ANCHORS
from edgeir.passmanager import Pass, PassContext, register_pass

ROUNDERS = {"dequantize": "quantize", "log_dequantize": "log_quantize"}
"""What decodes → what encodes."""


@register_pass
@dataclass(frozen=True)
class CorrectBias(Pass):
    """Corrects the biases of layers whose float weights are still in the graph; needs calibration samples.

    It stands between `quantize-weights{trainable=true}` and `fold-constants`, which stores the rounded weights.
    """

    name: ClassVar[str] = "correct-bias"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Measures all layers in one walk over the samples, then edits.

        Raises:
            EdgeIRError: no calibration samples, or an error of a layer is not finite.
        """
        layers = [node for node in graph.nodes if rounding_error(node) is not None]
        if not layers:
            return
        samples = context.require_calibration(self.name)
        check_samples(graph, samples)
        probe = _probe(graph, layers)
        run = executor(context)(probe)
        totals = [np.zeros(_channels(node)) for node in layers]
        for sample in samples:
            outputs = run(sample)
            for index, total in enumerate(totals):
                total += np.asarray(outputs[f"error_{index}"], np.float64)
        for node, total in zip(layers, totals, strict=True):
            error = total / len(samples)
            if not np.isfinite(error).all():
                raise EdgeIRError("the error of a layer's weights is infinite or NaN", where=str(node))
            if not context.permit(self.name, node):
                break
            add_to_bias(graph, node, error)
        graph.remove_unused_constants()


def rounding_error(node: Node) -> np.ndarray | None:
    """Float weights minus what their rounding represents; None for nodes without such weights."""
    if node.op not in INTEGER_ANCHORS:
        return None
    decoder = node.input(1).producer
    if decoder is None or decoder.op not in ROUNDERS:
        return None
    rounder = decoder.input(0).producer
    if rounder is None or rounder.op != ROUNDERS[decoder.op] or not rounder.input(0).is_constant:
        return None
    weights = rounder.input(0).data
    constants: list[np.ndarray | None] = [value.data for value in rounder.present_inputs]
    codes = evaluate_node(rounder, constants)[0]
    values = evaluate_node(decoder, [codes, *(value.data for value in decoder.present_inputs[1:])])[0]
    return (weights.astype(np.float64) - values.astype(np.float64)).astype(weights.dtype)


def added_per_channel(node: Node) -> np.ndarray:
    """What is added to each channel of a layer's result, where `add_to_bias` puts it; float64, zeros for nothing."""
    if node.op != "matmul":
        bias = bias_of(node)
        return bias.data.astype(np.float64) if bias is not None and bias.is_constant else np.zeros(_channels(node))
    found = _added_constant(node)
    # One that varies along other axes, too, has no single number for a channel: it counts as nothing.
    if found is None or found[2].size != _channels(node):
        return np.zeros(_channels(node))
    return found[2].astype(np.float64).reshape(-1)


def _added_constant(node: Node) -> tuple[Node, int, np.ndarray] | None:
    """The only reader of a product, if it adds a constant for each channel: reader, position, constant."""
    users = node.output.users
    if len(users) != 1 or users[0].op != "add" or node.output.is_output:
        return None
    index = next((i for i, value in enumerate(users[0].present_inputs) if value.is_constant), None)
    if index is None or users[0].input(index).data.shape[-1:] != (_channels(node),):
        return None
    return users[0], index, users[0].input(index).data


def _channels(node: Node) -> int:
    """Output channels of a layer whose weights are computed from constants."""
    count = node.output.type.shape[channel_axis(node)]
    assert isinstance(count, int)
    return count


def _probe(graph: Graph, layers: list[Node]) -> Graph:
    """A copy whose outputs are, for each layer, the mean over all but channels of what the weights' errors give."""
    copy = graph.copy()
    outputs = {}
    for index, node in enumerate(layers):
        twin = copy.value(node.output.name).producer
        error = rounding_error(node)
        assert twin is not None and error is not None
        b = Builder(copy)
        y = b.node(node.op, twin.input(0), error, **node.attributes).output
        axes = tuple(axis for axis in range(y.type.rank) if axis != channel_axis(node))
        outputs[f"error_{index}"] = b.reduce_mean(y, axes=axes, keepdims=False) if axes else y
    copy.set_outputs(outputs)
    for node in copy.reversed_nodes:
        if not any(value.is_used for value in node.outputs):
            copy.erase(node)
    copy.remove_unused_constants()
    return copy


def add_to_bias(graph: Graph, node: Node, error: np.ndarray) -> None:
    """Adds one number for each output channel to a layer's result; nothing where its bias is computed."""
    dtype = numpy_dtype(node.input(0).type.dtype)
    if node.op != "matmul":
        bias = bias_of(node)
        if bias is not None and not bias.is_constant:
            return
        old = np.zeros(error.shape) if bias is None else bias.data.astype(np.float64)
        name = f"{node.output.name}_bias" if bias is None else f"{bias.name}_corrected"
        value = graph.add_constant((old + error).astype(dtype), name)
        graph.set_inputs(node, [node.input(0), node.input(1), value])
        return
    found = _added_constant(node)
    if found is not None:
        reader, index, old = found
        total = (old.astype(np.float64) + error).astype(old.dtype)
        graph.set_input(reader, index, graph.add_constant(total, f"{reader.input(index).name}_corrected"))
        return
    value = node.output
    uses = value.uses
    names = [name for name, output in zip(graph.output_names, graph.outputs, strict=True) if output is value]
    first = min((user for user, _ in uses), key=lambda user: user._order) if uses else None
    bias = graph.add_constant(error.astype(dtype), f"{value.name}_bias")
    total = graph.add_node("add", (value, bias), before=first, location=node.location).output
    for user, index in uses:
        graph.set_input(user, index, total)
    if names:
        outputs = zip(graph.output_names, graph.outputs, strict=True)
        graph.set_outputs([(name, total if output is value else output) for name, output in outputs])
