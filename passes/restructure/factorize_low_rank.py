"""Replaces products and convolutions by two smaller ones through few channels.

    %y = matmul(%x, %w) : float32[1, 512]

becomes, with weights of 1024 × 512 that have rank 32,

    %h = matmul(%x, %w_first) : float32[1, 32]
    %y = matmul(%h, %w_second) : float32[1, 512]

A convolution becomes one with the same window and few output channels, then a pointwise one (Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", 2016, without its data-driven part).
The factors are the singular value decomposition's, the best of their rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Node, Value
from edgeir.passes.restructure.approximation import (
    Plan,
    Replaced,
    check_open_share,
    factors,
    float_weights,
    relative_error,
    replace_layers,
)
from edgeir.passes.restructure.separate_convolutions import two_convolutions
from edgeir.passmanager import Pass, PassContext, register_pass

DEFAULT_ENERGY = 0.95


@register_pass
@dataclass(frozen=True)
class FactorizeLowRank(Pass):
    """Replaces products and convolutions by two through few channels, where that needs fewer multiplications.

    Attributes:
        energy: keep singular values until this share of Σσ² is there; 0.95 where no rank ratio is given.
        rank_ratio: keep this share of the singular values instead.
        round_to: ranks are rounded up to multiples; the target's float lanes if None, 1 without a target.
        tolerance: layers whose weights would change by more than this share (Frobenius norm) stay.
    """

    name: ClassVar[str] = "factorize-low-rank"

    energy: float | None = None
    rank_ratio: float | None = None
    round_to: int | None = None
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            EdgeIRError: one is out of range, or two say how much to keep.
        """
        if self.energy is not None and self.rank_ratio is not None:
            raise EdgeIRError("several options say how much to keep", where=self.name, got="energy, rank-ratio")
        for name, value in (("energy", self.energy), ("rank-ratio", self.rank_ratio), ("tolerance", self.tolerance)):
            if value is not None:
                check_open_share(self.name, name, value)
        if self.round_to is not None and self.round_to < 1:
            raise EdgeIRError("round-to is out of range", where=self.name, expected="at least 1", got=self.round_to)

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph, and hands a `RestructuringReport` to the service "restructuring-report"."""
        block = self.round_to or (1 if context.target is None else context.target.lanes(32))
        replace_layers(graph, context, self.name, lambda node: self._plan(node, block))

    def _plan(self, node: Node, block: int) -> Plan | str | None:
        if node.op not in ("conv", "matmul"):
            return None
        weights = float_weights(node)
        if isinstance(weights, str):
            return weights
        if node.op == "conv":
            return self._convolution(node, weights, block)
        if weights.ndim != 2:
            return "its weights are not one matrix"
        matrix = weights.T if node.attributes["transpose_b"] else weights
        chosen = self._factors(matrix, block)
        if isinstance(chosen, str):
            return chosen
        first, second = (part.astype(node.input(1).data.dtype) for part in chosen[:2])

        def build(builder: Builder) -> Value:
            name = node.input(1).name
            inner = builder.matmul(
                node.input(0),
                builder.constant(first, f"{name}_first"),
                transpose_a=node.attributes["transpose_a"],
            )
            return builder.matmul(inner, builder.constant(second, f"{name}_second"))

        return Plan(build, self._outcome(node, matrix, *chosen))

    def _convolution(self, node: Node, weights: np.ndarray, block: int) -> Plan | str:
        if node.attributes["groups"] != 1:
            return "it is grouped already"
        outputs, channels, *kernel = weights.shape
        matrix = weights.reshape(outputs, channels * math.prod(kernel)).T
        chosen = self._factors(matrix, block)
        if isinstance(chosen, str):
            return chosen
        dtype = node.input(1).data.dtype
        rank = chosen[0].shape[1]
        first = np.ascontiguousarray(chosen[0].T.reshape(rank, channels, *kernel).astype(dtype))
        second = np.ascontiguousarray(chosen[1].T.reshape(outputs, rank, *(1,) * len(kernel)).astype(dtype))

        def build(builder: Builder) -> Value:
            return two_convolutions(builder, node, first, second, groups=1)

        return Plan(build, self._outcome(node, matrix, *chosen))

    def _factors(self, matrix: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray] | str:
        rows, columns = matrix.shape
        if self.rank_ratio is not None:
            rank = math.ceil(self.rank_ratio * min(rows, columns))
        else:
            energy = np.cumsum(np.linalg.svd(matrix, compute_uv=False) ** 2)
            wanted = (self.energy or DEFAULT_ENERGY) * energy[-1]
            rank = min(int(np.searchsorted(energy, wanted * (1 - 1e-12))) + 1, len(energy))
        rank = -(-rank // block) * block
        if rank * (rows + columns) >= rows * columns:
            after, before = rank * (rows + columns), rows * columns
            return f"two layers of rank {rank} would multiply {after} times for each position, not {before}"
        first, second = factors(matrix, rank)
        error = relative_error(matrix, first @ second)
        return f"the weights would change by {error:.3f}" if error > self.tolerance else (first, second)

    def _outcome(self, node: Node, matrix: np.ndarray, first: np.ndarray, second: np.ndarray) -> Replaced:
        rank, (rows, columns) = first.shape[1], matrix.shape
        error = relative_error(matrix, first @ second)
        return Replaced(node.output.name, rank, error, rank * (rows + columns), rows * columns)
