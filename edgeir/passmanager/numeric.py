"""Comparing what two graphs compute, with the reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeir.ir import Graph
from edgeir.ir.dtype import FLOATS, numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.passmanager.base import Pass
from edgeir.passmanager.instruments import Instrument

if TYPE_CHECKING:
    from edgeir.passmanager.report import PassRecord

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """How well outputs agree with a reference, over all outputs and samples.

    Attributes:
        max_error: the largest absolute difference; infinite where only one side is NaN.
        relative_error: the largest, over outputs, of absolute difference by largest reference magnitude.
        cosine: the smallest cosine similarity of an output with its reference.
        top1: share of rows (last axis) whose largest element is at the same place.
    """

    max_error: float
    relative_error: float
    cosine: float
    top1: float

    def __str__(self) -> str:
        return f"max error {self.max_error:.3g}, cosine {self.cosine:.6f}, top-1 {self.top1:.1%}"


def compare_outputs(outputs: Sequence[Arrays], references: Sequence[Arrays]) -> Agreement:
    """Agreement of outputs with references, sample by sample, output by output."""
    worst, relative, cosine = 0.0, 0.0, 1.0
    same_rows, rows = 0, 0
    for sample, reference in zip(outputs, references, strict=True):
        for name, expected in reference.items():
            a = np.asarray(sample[name]).astype(np.float64)
            b = np.asarray(expected).astype(np.float64)
            if a.shape != b.shape:
                return Agreement(np.inf, np.inf, 0.0, 0.0)
            if not a.size:
                continue
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            with np.errstate(invalid="ignore"):
                difference = np.where(same, 0.0, np.abs(a - b))
            error = float(np.where(np.isnan(difference), np.inf, difference).max())
            finite = np.isfinite(a) & np.isfinite(b)
            worst = max(worst, error)
            relative = max(relative, error / max(float(np.abs(b[finite]).max(initial=0.0)), 1e-30) if error else 0.0)
            cosine = min(cosine, _cosine(a[finite], b[finite]))
            if a.ndim:
                hits = a.argmax(-1) == b.argmax(-1)
                same_rows, rows = same_rows + int(hits.sum()), rows + hits.size
    return Agreement(worst, relative, cosine, same_rows / rows if rows else 1.0)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(np.vdot(a, b)) / norms


def example_inputs(graph: Graph, seed: int = 0, symbol_size: int = 4) -> dict[str, np.ndarray]:
    """Random inputs: floats from a normal distribution, integers and bools 0 or 1 (valid as indices of most tables).

    Args:
        graph: the graph.
        seed: of the generator.
        symbol_size: the size that every symbolic dimension takes.
    """
    generator = np.random.default_rng(seed)
    inputs = {}
    for value in graph.inputs:
        sizes = {name: symbol_size for name in value.type.symbols()}
        shape = value.type.bind(sizes).static_shape
        dtype = numpy_dtype(value.type.dtype)
        if value.type.dtype in FLOATS:
            inputs[value.name] = generator.standard_normal(shape).astype(dtype)
        else:
            inputs[value.name] = generator.integers(0, 2, shape).astype(dtype)
    return inputs


class NumericCheck(Instrument):
    """Compares the graph's outputs with the original's after each pass that changed it."""

    def __init__(self, samples: Sequence[Arrays] | None = None, seed: int = 0) -> None:
        """Takes samples (input name → array), or makes one from the seed."""
        self.samples = samples
        self.seed = seed
        self._references: list[dict[str, np.ndarray]] = []
        self._latest: Agreement | None = None

    def begin(self, graph: Graph) -> None:
        """Computes the reference outputs."""
        if self.samples is None:
            self.samples = [example_inputs(graph, self.seed)]
        self._references = [evaluate(graph, sample) for sample in self.samples]
        self._latest = None

    def after_pass(self, index: int, item: Pass, graph: Graph, record: PassRecord) -> None:
        """Computes and compares."""
        if record.changed or self._latest is None:
            self._latest = self.agreement(graph)
        record.agreement = self._latest

    def agreement(self, graph: Graph) -> Agreement:
        """How a graph agrees with the original."""
        return compare_outputs([evaluate(graph, sample) for sample in self.samples or []], self._references)
