"""Quantizes a float network after training, and keeps its accuracy.

    %y = conv(%x, %w, %b) {…} : float32[1, 8, 8, 8]

becomes

    %q = quantize(%x, scale, zero) : uint8[1, 3, 8, 8]
    %d = dequantize(%q, scale, zero) : float32[1, 3, 8, 8]
    %v = dequantize(int8 weights, scales, zero) : float32[8, 3, 3, 3]
    %y = conv(%d, %v, %b) {…} : float32[1, 8, 8, 8]

by the passes `equalize-cross-layer`, `insert-qdq`, `quantize-weights`, `compensate-rounding` and `correct-bias`.

With `max-drop`, layers are ranked by measured harm, and the worst return to a higher precision (from 4 bits to 8, from
8 to float) until the metric is at most that much below the float network's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.passes.folding.fold_constants import FoldConstants
from edgeir.passes.quantization.calibration import Arrays, check_samples, executor
from edgeir.passes.quantization.compensate_rounding import CompensateRounding
from edgeir.passes.quantization.correct_bias import CorrectBias
from edgeir.passes.quantization.equalize_cross_layer import EqualizeCrossLayer
from edgeir.passes.quantization.insert_qdq import Activations, InsertQdq
from edgeir.passes.quantization.observers import ObserverName
from edgeir.passes.quantization.placement import Placement
from edgeir.passes.quantization.quantize_weights import QuantizeWeights
from edgeir.passes.quantization.sensitivity import FLOAT, SwitchedNetwork, rank_layers
from edgeir.passmanager import Pass, PassContext, register_pass

METRIC = "metric"
"""Name of the service that judges a network: (inputs → outputs) → points, of which more are better."""

Run = Callable[[Arrays], Arrays]


@register_pass
@dataclass(frozen=True)
class Quantize(Pass):
    """Quantizes weights and activations; needs calibration samples, and the float graph simplified.

    Attributes:
        bits: of a weight: 8 or 4; `log2` takes 3 to 8.
        scheme: of weights: `linear` or `log2`.
        observer, placement, activations, activation_bits, symmetric: see `insert-qdq`.
        per_channel, trainable: see `quantize-weights`.
        equalize: whether `equalize-cross-layer` goes first.
        compensate: whether weights are rounded jointly, on calibration samples (`compensate-rounding`). `auto`: below 8
            bits, unless `trainable`.
        correct_bias: whether biases make up for the mean error of rounded weights.
        max_drop: the most points that the metric may lose; None for no limit. The metric is the service `metric` of the
            context; without one it is the percentage of rows with the float network's largest element for outputs of
            rank 2, and 100 times the mean cosine with the float network's for others.
        skip: operators or names that stay float.
    """

    name: ClassVar[str] = "quantize"
    bits: int = 8
    scheme: Literal["linear", "log2"] = "linear"
    observer: ObserverName = "percentile"
    placement: Placement = "portable"
    activations: Activations = "auto"
    activation_bits: int = 8
    symmetric: bool = False
    per_channel: bool = True
    trainable: bool = False
    equalize: bool = False
    compensate: Literal["auto", "yes", "no"] = "auto"
    correct_bias: bool = False
    max_drop: float | None = None
    skip: tuple[str, ...] = ()

    def run(self, graph: Graph, context: PassContext) -> None:
        """Quantizes.

        Raises:
            EdgeIRError: no calibration samples, an option out of range, or a limit that even the float network misses.
        """
        if self.max_drop is not None and not 0.0 <= self.max_drop < np.inf:
            raise EdgeIRError("not a drop", where=f"pass {self.name}", expected="points ≥ 0", got=self.max_drop)
        samples = context.require_calibration(self.name)
        check_samples(graph, samples)
        if self.equalize:
            # A bound per channel is no operator that other engines have as integers.
            EqualizeCrossLayer(clip=self.placement == "fused").run(graph, context)
        precisions: Mapping[str, int] = {}
        if self.max_drop is not None:
            precisions = self._precisions(graph, context, samples)
        self._apply(graph, context, precisions)

    def _apply(self, graph: Graph, context: PassContext, precisions: Mapping[str, int]) -> None:
        floats = tuple(name for name, bits in precisions.items() if bits == FLOAT)
        higher: dict[int, list[str]] = {}
        for name, bits in precisions.items():
            if bits not in (FLOAT, self.bits):
                higher.setdefault(bits, []).append(name)
        skip = (*self.skip, *floats)
        self._activations(skip).run(graph, context)
        raised = [name for names in higher.values() for name in names]
        self._weights(self.bits, self.scheme, (*skip, *raised)).run(graph, context)
        for bits in higher:
            others = [name for other, names in higher.items() if other != bits for name in names]
            self._weights(bits, "linear", (*skip, *others)).run(graph, context)
        if self._compensates:
            CompensateRounding().run(graph, context)
        if self.correct_bias:
            # Of layers that are compensated nothing is left to correct.
            CorrectBias().run(graph, context)
        if (self._compensates or self.correct_bias) and not self.trainable:
            FoldConstants().run(graph, context)

    @property
    def _compensates(self) -> bool:
        return self.compensate == "yes" or (self.compensate == "auto" and self.bits < 8 and not self.trainable)

    def _activations(self, skip: tuple[str, ...]) -> InsertQdq:
        return InsertQdq(
            observer=self.observer,
            placement=self.placement,
            activations=self.activations,
            bits=self.activation_bits,
            symmetric=self.symmetric,
            skip=skip,
        )

    def _weights(self, bits: int, scheme: Literal["linear", "log2"], skip: tuple[str, ...]) -> QuantizeWeights:
        return QuantizeWeights(
            scheme=scheme,
            bits=bits,
            per_channel=self.per_channel,
            trainable=self.trainable or self.correct_bias or self._compensates,
            only_integer=True,
            skip=skip,
        )

    def _precisions(self, graph: Graph, context: PassContext, samples: Sequence[Arrays]) -> Mapping[str, int]:
        """Bits for each layer's weights that keep the metric."""
        assert self.max_drop is not None
        execute = executor(context)
        float_run = execute(graph.copy())
        references = [dict(float_run(sample)) for sample in samples]
        metric = _metric(context, samples, references)
        least = metric(float_run) - self.max_drop
        ladder = [self.bits, 8, FLOAT] if self.bits < 8 else [self.bits, FLOAT]
        variants = {}
        quiet = PassContext(target=context.target, calibration=samples, services=context.services)
        for bits in ladder[:-1]:
            variants[bits] = graph.copy()
            scheme = self.scheme if bits == self.bits else "linear"
            self._activations(self.skip).run(variants[bits], quiet)
            weights = self._weights(bits, scheme, self.skip)
            if self._compensates:
                weights.run(variants[bits], quiet)
                # Whether earlier layers are rounded is not known yet.
                CompensateRounding(fit=False).run(variants[bits], quiet)
                FoldConstants().run(variants[bits], quiet)
            else:
                # As constants, which the switched network chooses between.
                replace(weights, trainable=False).run(variants[bits], quiet)
        network = SwitchedNetwork(graph, variants, self.placement, self.skip, execute)

        def holds(precisions: Mapping[str, int]) -> bool:
            if not self._compensates:
                return metric(network.run(precisions)) >= least
            # What a layer's weights make up for depends on the others' precision.
            tried = graph.copy()
            self._apply(tried, quiet, precisions)
            return metric(execute(tried)) >= least

        precisions = dict.fromkeys(network.layers, ladder[0])
        for lower, upper in pairwise(ladder):
            if holds(precisions):
                break
            order = [harm.layer for harm in rank_layers(network, lower, samples, references)]
            raised = _fewest(order, upper, precisions, holds)
            precisions |= dict.fromkeys(order[:raised], upper)
        return precisions


def _fewest(order: Sequence[str], bits: int, precisions: Mapping[str, int], holds: Callable[..., bool]) -> int:
    """How many of the layers, the worst first, must be raised; all, if even that does not hold.

    The metric is taken to grow with the number, which halves the search; the number that is returned was tried.
    """
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        if holds({**precisions, **dict.fromkeys(order[:middle], bits)}):
            high = middle
        else:
            low = middle
    return high


def _metric(
    context: PassContext, samples: Sequence[Arrays], references: Sequence[Arrays]
) -> Callable[[Callable[[Arrays], Arrays]], float]:
    """The context's metric, or agreement with the float network's outputs in percent."""
    if METRIC in context.services:
        return context.services[METRIC]

    def agreement(run: Run) -> float:
        points = []
        for sample, expected in zip(samples, references, strict=True):
            got = run(sample)
            for name, array in expected.items():
                points.append(_agreement(np.asarray(got[name], np.float64), np.asarray(array, np.float64)))
        return 100.0 * float(np.mean(points)) if points else 100.0

    return agreement


def _agreement(got: np.ndarray, expected: np.ndarray) -> float:
    if expected.ndim == 2 and expected.shape[1] > 1:
        return float((got.argmax(1) == expected.argmax(1)).mean())
    norms = float(np.linalg.norm(got) * np.linalg.norm(expected))
    return float(np.vdot(got, expected)) / norms if norms else float(np.array_equal(got, expected))
