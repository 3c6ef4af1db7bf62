"""Sampling at positions that a tensor gives, as ONNX's GridSample defines it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.ir.dtype import FLOATS
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import check_dtype, check_rank, check_shape, present
from edgeir.ops.resize import cubic_kernel, linear_kernel

Attributes = Mapping[str, Any]

CUBIC_COEFFICIENT = -0.75
"""Parameter of Keys' kernel that ONNX (and PyTorch) fix for grid sampling."""


def reflect(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Positions mirrored at `low` and `high` until they lie between them."""
    span = high - low
    if span <= 0:
        return np.full_like(x, low)
    folded = np.mod(x - low, 2 * span)
    return low + np.minimum(folded, 2 * span - folded)


def source_positions(normalized: np.ndarray, size: int, align_corners: bool) -> np.ndarray:
    """Grid values in [−1, 1] as positions in units of elements of an axis."""
    if align_corners:
        return (normalized + 1) / 2 * (size - 1)
    return ((normalized + 1) * size - 1) / 2


def _fold(x: np.ndarray, size: int, attributes: Attributes) -> np.ndarray:
    """Positions outside the axis brought inside, as the padding mode says; `zeros` leaves them."""
    match attributes["padding_mode"]:
        case "border":
            return np.clip(x, 0, size - 1)
        case "reflection":
            low, high = (0, size - 1) if attributes["align_corners"] else (-0.5, size - 0.5)
            return np.where((x < low) | (x > high), reflect(x, low, high), x)
    return x


@register
class GridSample(Op):
    """y[n, c, *o] = x[n, c] at position grid[n, *o], whose last axis counts axes from the last to the first."""

    name = "grid_sample"
    operands = ("x", "grid")
    attributes: ClassVar = {
        "mode": Attribute(Kind.STR, "linear", ("nearest", "linear", "cubic")),
        "padding_mode": Attribute(Kind.STR, "zeros", ("zeros", "border", "reflection")),
        "align_corners": Attribute(Kind.BOOL, False),
    }
    pattern = Pattern.ANCHOR

    def infer(self, inputs: Sequence[TensorType | None], attributes: Attributes) -> list[TensorType]:
        """`x` (N, C, *S) and grid (N, *O, rank of S) → (N, C, *O); as many axes in O as in S."""
        x, grid = present(inputs, 0), present(inputs, 1)
        check_rank("x", x, 3)
        check_rank("grid", grid, x.rank, x.rank)
        check_dtype("x", x, FLOATS)
        check_dtype("grid", grid, FLOATS)
        check_shape("grid", grid, (x.shape[0], *grid.shape[1:-1], x.rank - 2))
        return [TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Attributes) -> list[np.ndarray]:
        """Sum over the corners of the kernel, all positions at once."""
        x, grid = present(inputs, 0), present(inputs, 1)
        sizes = x.shape[2:]
        out = grid.shape[1:-1]
        axes: list[list[tuple[np.ndarray, np.ndarray]]] = []
        for axis, size in enumerate(sizes):
            # Positions in at least float32, as the reference implementation: nearest rounds them.
            normalized = grid[..., len(sizes) - 1 - axis]
            normalized = normalized.astype(
                np.promote_types(np.float32, np.float64 if grid.itemsize == 8 else np.float32)
            )
            axes.append(_axis_taps(source_positions(normalized, size, attributes["align_corners"]), size, attributes))
        y = np.zeros((x.shape[0], x.shape[1], *out), np.float64)
        batch = np.arange(x.shape[0]).reshape(-1, *(1,) * len(out))
        channels_last = np.moveaxis(x, 1, -1).astype(np.float64)
        for taps in itertools.product(*axes):
            weight = np.ones(grid.shape[:-1])
            position = []
            for (index, factor), size in zip(taps, sizes, strict=True):
                # A position outside counts as zero; inside it is folded already.
                weight = weight * np.where((index >= 0) & (index < size), factor, 0)
                position.append(np.clip(index, 0, max(size - 1, 0)))
            y += np.moveaxis(channels_last[(batch, *position)] * weight[..., None], -1, 1)
        return [y.astype(x.dtype)]


def _axis_taps(x: np.ndarray, size: int, attributes: Attributes) -> list[tuple[np.ndarray, np.ndarray]]:
    """(indices, weights) of each tap along one axis; indices outside remain where they count as zero."""
    if attributes["mode"] == "nearest":
        nearest = _fold(np.rint(x), size, attributes)
        return [(_fold(np.trunc(nearest), size, attributes).astype(np.int64), np.ones(x.shape))]
    linear = attributes["mode"] == "linear"
    if linear:
        # Cubic sampling folds its taps only, as PyTorch and onnxruntime do (onnx's reference clamps positions too).
        x = _fold(x, size, attributes)
    base = np.floor(x)
    taps = []
    for offset in (0, 1) if attributes["mode"] == "linear" else (-1, 0, 1, 2):
        position = base + offset
        distance = (position - x).astype(np.float64)
        weight = (
            linear_kernel(distance) if attributes["mode"] == "linear" else cubic_kernel(distance, CUBIC_COEFFICIENT)
        )
        taps.append((np.trunc(_fold(position, size, attributes)).astype(np.int64), weight))
    return taps
