"""Second moments of what the weights of a convolution or product are multiplied by.

The weights of a layer are seen as [groups, outputs, inputs]: for a convolution, inputs are the elements of a window in
the channels of its group. A depthwise convolution has a group for each channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeir.ir import Node
from edgeir.ops.windows import pad_spatial, static_counts, window_counts, window_view

_LEAST_ROWS = 8192
_ROWS_PER_INPUT = 8


@dataclass
class Moments:
    """Sums over rows x (of the quantized network) and r (of the float one), in float64.

    Attributes:
        rows: how many.
        x, r: Σ x and Σ r, [groups, inputs].
        xx, rx: Σ x·xᵀ and Σ r·xᵀ, [groups, inputs, inputs].
    """

    rows: int
    x: np.ndarray
    r: np.ndarray
    xx: np.ndarray
    rx: np.ndarray

    @classmethod
    def of(cls, node: Node, computed: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> Moments:
        """Of a layer's input on each sample; of large inputs a fixed random part of the windows is looked at."""
        groups, _, inputs = rows_of_weights(node, node.input(1).type.static_shape)
        moments = cls(
            0, *(np.zeros((groups, inputs)) for _ in range(2)), *(np.zeros((groups, inputs, inputs)) for _ in range(2))
        )
        most = max(1, max(_LEAST_ROWS, _ROWS_PER_INPUT * inputs) // max(len(computed), 1))
        for number, (one, two) in enumerate(zip(computed, reference, strict=True)):
            x, r = (windows(node, array, most, np.random.default_rng(number)) for array in (one, two))
            moments.rows += x.shape[2]
            moments.x += x.sum(axis=2)
            moments.r += r.sum(axis=2)
            moments.xx += x @ x.swapaxes(1, 2)
            moments.rx += r @ x.swapaxes(1, 2)
        return moments

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.rows + other.rows, self.x + other.x, self.r + other.r, self.xx + other.xx, self.rx + other.rx
        )

    def centered(self) -> Moments:
        """About the means: what is left for the weights where a bias takes care of the means."""
        rows = max(self.rows, 1)
        xx = self.xx - self.x[:, :, None] * self.x[:, None, :] / rows
        rx = self.rx - self.r[:, :, None] * self.x[:, None, :] / rows
        return Moments(self.rows, np.zeros_like(self.x), np.zeros_like(self.r), xx, rx)

    def normalized(self) -> Moments:
        """Divided so that the inputs' mean power is 1."""
        power = max(float(np.trace(self.xx, axis1=1, axis2=2).mean()), np.finfo(np.float64).tiny)
        root = np.sqrt(power)
        return Moments(self.rows, self.x / root, self.r / root, self.xx / power, self.rx / power)


def rows_of_weights(node: Node, shape: Sequence[int]) -> tuple[int, int, int]:
    """(groups, outputs of a group, inputs of a group) of a `conv` or `matmul` with weights of a shape."""
    if node.op == "matmul":
        rows, columns = shape
        return (1, rows, columns) if node.attributes["transpose_b"] else (1, columns, rows)
    groups = node.attributes["groups"]
    return groups, shape[0] // groups, math.prod(shape[1:])


def as_rows(node: Node, weights: np.ndarray) -> np.ndarray:
    """Weights as [groups, outputs, inputs]."""
    if node.op == "matmul" and not node.attributes["transpose_b"]:
        weights = weights.T
    shape = node.input(1).type.static_shape
    return weights.reshape(rows_of_weights(node, shape))


def from_rows(node: Node, rows: np.ndarray) -> np.ndarray:
    """The inverse of `as_rows`; [groups, outputs, 1] becomes one element per output channel, which broadcasts."""
    shape = node.input(1).type.static_shape
    if node.op == "matmul":
        return rows[0] if node.attributes["transpose_b"] else np.ascontiguousarray(rows[0].T)
    if rows.shape[2] == 1:
        return rows.reshape(-1, *(1,) * (len(shape) - 1))
    return rows.reshape(shape)


def windows(node: Node, x: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """What each output position multiplies, float64 [groups, inputs, positions]; at most `most` positions."""
    if node.op == "matmul":
        rows = x.swapaxes(-1, -2) if node.attributes["transpose_a"] else x
        rows = rows.reshape(-1, rows.shape[-1])
        return rows[_chosen(len(rows), most, generator)].T[None].astype(np.float64)
    strides, padding, dilations = (node.attributes[key] for key in ("strides", "padding", "dilations"))
    kernel = node.input(1).type.static_shape[2:]
    counts = static_counts(window_counts(x.shape[2:], kernel, strides, padding, dilations))
    view = window_view(pad_spatial(x, padding, 0), counts, kernel, strides, dilations)
    positions = np.unravel_index(_chosen(x.shape[0] * math.prod(counts), most, generator), (x.shape[0], *counts))
    # Indices apart from each other come first: (positions, C, *K).
    chosen = view[positions[0], :, *positions[1:]]
    groups = node.attributes["groups"]
    flat = chosen.reshape(len(positions[0]), groups, -1)
    return np.ascontiguousarray(flat.transpose(1, 2, 0), np.float64)


def _chosen(count: int, most: int, generator: np.random.Generator) -> np.ndarray:
    """Positions below `count`: all, or one at random out of each of `most` equal parts."""
    if count <= most:
        return np.arange(count)
    return ((np.arange(most) + generator.random(most)) * (count / most)).astype(np.int64)
