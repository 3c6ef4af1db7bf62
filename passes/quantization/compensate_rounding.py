"""Rounds a layer's weights so that their errors make up for each other on real inputs.

    %q = quantize(%w, %s, %z) : int4[8, 3, 3, 3]
    %d = dequantize(%q, %s, %z) : float32[8, 3, 3, 3]
    %y = conv(%x, %d, %b) {…} : float32[1, 8, 8, 8]

becomes the same with other weights, scales and biases. The new weights are multiples of the scales that the codes stand
for exactly, so that rounding them once more changes nothing. Each layer is fitted to what the float network's layer
computes on the calibration samples, with the inputs that the network quantized so far gives it: with r and x its inputs
in the float and in the quantized network, the weights Ŵ have a small E|W·r − Ŵ·x|², which is that of least squares plus
(Ŵ − W′)·E[x·xᵀ]·(Ŵ − W′)ᵀ with W′ = W·E[r·xᵀ]·E[x·xᵀ]⁻¹. Weights are rounded in turn, errors move to those that are not
rounded yet (Frantar et al.: "GPTQ", 2022, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, Value
from edgeir.ops.logarithmic import code_values
from edgeir.ops.operands import integer_range
from edgeir.passes.folding.channels import bias_of, channel_axis
from edgeir.passes.quantization.calibration import Arrays, check_samples
from edgeir.passes.quantization.correct_bias import ROUNDERS, add_to_bias, rounding_error
from edgeir.passes.quantization.grid import safe_scale
from edgeir.passes.quantization.layer_moments import Moments, as_rows, from_rows, rows_of_weights
from edgeir.passes.quantization.quantize_weights import input_axis, least_scales, output_axis, sums_saturate
from edgeir.passes.quantization.sample_front import SampleFront
from edgeir.passes.quantization.successive_rounding import Pairs, SuccessiveRounding
from edgeir.passes.quantization.weight_rounding import PAIR_LIMIT
from edgeir.passmanager import Pass, PassContext, register_pass

_FACTORS = {"dequantize": np.linspace(0.7, 1.3, 13), "log_dequantize": 2.0 ** (np.arange(-4, 5) / 8)}

_Codes = Callable[[np.ndarray, np.ndarray], np.ndarray]
_Error = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@register_pass
@dataclass(frozen=True)
class CompensateRounding(Pass):
    """Rounds again, jointly, the weights of layers whose float weights are in the graph; needs calibration samples.

    It stands between `quantize-weights{trainable=true}` and `fold-constants`, which stores the rounded weights.

    Attributes:
        damping: what is added to the diagonal of E[x·xᵀ], as a part of its mean.
        fit: whether a layer makes up for errors of earlier ones, too; if not, only for those of its own weights.
        scales: whether other scales are tried, for the least error of a channel.
        correct_bias: whether biases make up for what is left of each channel's mean error.
        sweeps: how often every weight is rounded again, given all others.
        samples: the most calibration samples that are used.
    """

    name: ClassVar[str] = "compensate-rounding"
    damping: float = 0.01
    fit: bool = True
    scales: bool = True
    correct_bias: bool = True
    sweeps: int = 4
    samples: int = 256

    def run(self, graph: Graph, context: PassContext) -> None:
        """One layer after the other, with the inputs that those before give it.

        Raises:
            EdgeIRError: no calibration samples, or values that are infinite or NaN.
        """
        if not (np.isfinite(self.damping) and self.damping > 0.0):
            raise EdgeIRError("damping is out of range", where=f"pass {self.name}", expected="> 0", got=self.damping)
        layers = [node for node in graph.nodes if can_compensate(node)]
        if not layers:
            return
        samples = context.require_calibration(self.name)
        check_samples(graph, samples)
        samples = samples[: self.samples]
        reference = without_rounding(graph)
        fronts = SampleFront(graph, samples), SampleFront(reference, samples)
        done = self._shared(graph, layers, samples, context)
        for node in layers:
            twin = _twin(reference, node)
            fronts[0].advance(node)
            fronts[1].advance(twin)
            if _decoder(node) not in done:
                if not context.permit(self.name, node):
                    break
                moments = self._moments(node, fronts[0].arrays(node.input(0)), fronts[1].arrays(twin.input(0)))
                self._round(graph, [node], moments, context)
                for changed in _rounders(node):
                    fronts[0].compute(changed)
            inputs = fronts[0].arrays(node.input(0))
            computed, expected = fronts[0].step(), fronts[1].step()
            if not self.fit:
                constants = [value.data for value in twin.present_inputs[1:]]
                expected = [twin.definition.evaluate([array, *constants], twin.attributes)[0] for array in inputs]
            self._correct(graph, node, computed, expected)
        graph.remove_unused_constants()

    def _shared(
        self, graph: Graph, layers: Sequence[Node], samples: Sequence[Arrays], context: PassContext
    ) -> set[Node]:
        """Rounds weights of several layers for all of them, with the inputs that plain rounding gives."""
        readers: dict[Node, list[Node]] = {}
        for node in layers:
            readers.setdefault(_decoder(node), []).append(node)
        shared = {decoder: nodes for decoder, nodes in readers.items() if len(nodes) > 1}
        if not shared:
            return set()
        front = SampleFront(graph, samples)
        found: dict[Node, Moments] = {}
        for node in (node for node in layers if _decoder(node) in shared):
            decoder = _decoder(node)
            front.advance(node)
            inputs = front.arrays(node.input(0))
            # Errors of earlier layers are not the final ones here, so they are not made up for. Readers count equally.
            moments = self._moments(node, inputs, inputs).normalized()
            found[decoder] = found[decoder] + moments if decoder in found else moments
        for decoder, nodes in shared.items():
            if context.permit(self.name, nodes[0]):
                self._round(graph, nodes, found[decoder], context)
        return set(shared)

    def _moments(self, node: Node, computed: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> Moments:
        """Of a layer's inputs; about their means where a bias takes care of those."""
        moments = Moments.of(node, computed, reference)
        return moments.centered() if self.correct_bias and _may_correct(node) else moments

    def _round(self, graph: Graph, nodes: Sequence[Node], moments: Moments, context: PassContext) -> None:
        node = nodes[0]
        encoder, decoder = _rounders(node)
        if not (np.isfinite(moments.xx).all() and np.isfinite(moments.rx).all()):
            raise EdgeIRError("a layer's input is infinite or NaN", where=str(node))
        old = encoder.input(0)
        weights = as_rows(node, old.data.astype(np.float64))
        identity = np.eye(weights.shape[2])
        mean = np.trace(moments.xx, axis1=1, axis2=2)[:, None, None] / max(weights.shape[2], 1)
        hessian = moments.xx + np.where(mean > 0.0, self.damping * mean, 1.0) * identity
        if self.fit:
            moved = np.linalg.solve(hessian, (moments.rx - moments.xx).swapaxes(1, 2)).swapaxes(1, 2)
            weights = weights + weights @ moved
        solver = SuccessiveRounding(hessian, representable(decoder, encoder.output))
        pairs = _pairs(node, encoder.output, context)
        scales, codes = self._best(solver, weights, _scales(node), _floor(nodes), decoder, pairs)
        if pairs is None:
            codes = solver.improve(codes, weights, scales, self.sweeps)
        dtype = old.data.dtype
        value = graph.add_constant(from_rows(node, codes * scales).astype(dtype), f"{old.name}_compensated")
        stored = decoder.input(1)
        scale = stored
        if self.scales:
            array = scales.reshape(-1)[0] if stored.data.size == 1 else from_rows(node, scales)
            scale = graph.add_constant(
                array.astype(stored.data.dtype).reshape(stored.data.shape), f"{stored.name}_fitted"
            )
        graph.set_input(encoder, 0, value)
        graph.set_input(encoder, 1, scale)
        graph.set_input(decoder, 1, scale)

    def _best(
        self,
        solver: SuccessiveRounding,
        weights: np.ndarray,
        base: np.ndarray,
        floor: np.ndarray,
        decoder: Node,
        pairs: Pairs | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scales [groups, outputs, 1] and codes of the least error for each channel, or for all with one scale.

        Tried are the scales there are, and those that are best for each weight alone.
        """
        dtype, alone = decoder.input(1).type.dtype, decoder.input(1).data.size == 1

        def least(scales: Iterable[np.ndarray], codes: _Codes, error: _Error) -> tuple[np.ndarray, np.ndarray]:
            best = None
            for tried in scales:
                found = codes(weights, tried)
                cost = error(found, weights, tried)
                cost = np.broadcast_to(cost.sum(), cost.shape) if alone else cost
                new = (cost, tried, found)
                best = (
                    new
                    if best is None
                    else tuple(np.where(cost < best[0], one, two) for one, two in zip(new, best, strict=True))
                )
            assert best is not None
            return best[1], best[2]

        if not self.scales:
            return base, solver.codes(weights, base, pairs)
        candidates = [np.maximum(base * factor, floor) for factor in _FACTORS[decoder.op]]
        # As they will be stored.
        stored = [safe_scale(scales, dtype).astype(np.float64) for scales in candidates]
        fitted, _ = least(stored, solver.nearest, solver.own_error)
        return least((base, fitted), lambda w, s: solver.codes(w, s, pairs), solver.error)

    def _correct(
        self, graph: Graph, node: Node, computed: Sequence[np.ndarray], reference: Sequence[np.ndarray]
    ) -> None:
        """Makes the means of a layer's channels the float network's."""
        if not self.correct_bias or not _may_correct(node):
            return
        axis = channel_axis(node)
        axes = tuple(other for other in range(node.output.type.rank) if other != axis)
        means = [
            np.mean([array.astype(np.float64).mean(axis=axes) for array in arrays], axis=0)
            for arrays in (reference, computed)
        ]
        error = means[0] - means[1]
        if not np.isfinite(error).all():
            raise EdgeIRError("a layer's result is infinite or NaN", where=str(node))
        add_to_bias(graph, node, error)
        if node.op == "conv":
            for array in computed:
                array += error.astype(array.dtype).reshape(-1, *(1,) * (array.ndim - 2))


def without_rounding(graph: Graph) -> Graph:
    """A copy in which what is rounded and decoded at once stays as it is; names of values are the original's."""
    copy = graph.copy()
    for node in list(copy.nodes):
        encoder = node.input(0).producer if node.op in ROUNDERS else None
        if encoder is not None and encoder.op == ROUNDERS[node.op] and encoder.input(0).type == node.output.type:
            copy.replace_all_uses(node.output, encoder.input(0))
    for node in copy.reversed_nodes:
        if not any(value.is_used for value in node.outputs):
            copy.erase(node)
    return copy


def can_compensate(node: Node) -> bool:
    """Whether a node is a convolution or product whose constant weights are rounded on a symmetric grid."""
    if node.op not in ("conv", "matmul") or rounding_error(node) is None:
        return False
    encoder, decoder = _rounders(node)
    if encoder.output.use_count > 1 or decoder.output.is_output or not node.output.type.rank:
        return False
    if node.op == "matmul" and decoder.output.type.rank != 2:
        return False
    if decoder.op == "dequantize":
        zeros = [rounder.inputs[2] for rounder in (encoder, decoder) if len(rounder.inputs) > 2]
        if any(zero is not None and np.any(zero.data.astype(np.int64)) for zero in zeros):
            return False
        if encoder.output.type.dtype not in ("int8", "int4"):
            return False
    if not np.array_equal(encoder.input(1).data, decoder.input(1).data):
        return False
    for reader in decoder.output.users:
        same = reader.op == node.op and reader.attributes.get("groups") == node.attributes.get("groups")
        if not same or reader.attributes.get("transpose_b") != node.attributes.get("transpose_b"):
            return False
        if reader.input(0) is decoder.output:
            return False
    scales = as_rows(node, np.broadcast_to(decoder.input(1).data, decoder.output.type.static_shape))
    return bool((scales == scales[:, :, :1]).all())


def representable(decoder: Node, codes: Value) -> np.ndarray:
    """What codes stand for at scale 1, ascending float64."""
    if decoder.op == "log_dequantize":
        return np.unique(code_values(decoder.attributes["bits"]))
    least, greatest = integer_range(codes.type.dtype)
    return np.arange(least, greatest + 1, dtype=np.float64)


def _rounders(node: Node) -> tuple[Node, Node]:
    """What encodes and decodes a layer's weights."""
    decoder = _decoder(node)
    encoder = decoder.input(0).producer
    assert encoder is not None
    return encoder, decoder


def _decoder(node: Node) -> Node:
    decoder = node.input(1).producer
    assert decoder is not None
    return decoder


def _twin(reference: Graph, node: Node) -> Node:
    twin = reference.value(node.output.name).producer
    assert twin is not None
    return twin


def _scales(node: Node) -> np.ndarray:
    shape = node.input(1).type.static_shape
    return as_rows(node, np.broadcast_to(_decoder(node).input(1).data.astype(np.float64), shape))[:, :, :1]


def _floor(nodes: Sequence[Node]) -> np.ndarray:
    """The least scales that the biases of all readers allow, in the shape of `_scales`."""
    node = nodes[0]
    shape = node.input(1).type.static_shape
    per_channel = _decoder(node).input(1).data.size > 1
    floors = [least_scales(reader, output_axis(reader), per_channel) for reader in nodes]
    present = [as_rows(node, np.broadcast_to(floor, shape))[:, :, :1] for floor in floors if floor is not None]
    return np.max(present, axis=0) if present else np.zeros(())


def _pairs(node: Node, codes: Value, context: PassContext) -> Pairs | None:
    """The limit of 16-bit sums, where the target has them."""
    axis = input_axis(node)
    if codes.type.dtype != "int8" or axis is None or not sums_saturate(context.target):
        return None
    shape = node.input(1).type.static_shape
    inputs = np.arange(shape[axis])
    partners = np.where(inputs ^ 1 < shape[axis], inputs ^ 1, inputs)
    # The number of each input, where it is in the weights.
    groups_outputs_inputs = rows_of_weights(node, shape)
    numbers = from_rows(node, np.broadcast_to(np.arange(groups_outputs_inputs[2]), groups_outputs_inputs))
    return Pairs(as_rows(node, np.take(numbers, partners, axis=axis))[0, 0], float(PAIR_LIMIT))


def _may_correct(node: Node) -> bool:
    bias = bias_of(node) if node.op == "conv" else None
    return bias is None or bias.is_constant
