"""Pooling of regions of interest with bilinear samples, as ONNX's RoiAlign defines it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.dtype import FLOATS
from edgeir.ir.op import Attribute, Kind, Op, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import check_dtype, check_rank, check_same_dtype, check_shape, present

Attributes = Mapping[str, Any]


@register
class RoiAlign(Op):
    """Every region cut into height × width bins; a bin is the mean or maximum of bilinear samples inside it.

    A region is (x1, y1, x2, y2) in image coordinates; `spatial_scale` takes it to coordinates of `x`, and `half_pixel`
    shifts it by −0.5 (without it, regions are at least 1×1). `sampling_ratio` is the number of samples per bin and
    axis; 0 takes ⌈bin size⌉. In mode `max`, ONNX compares the four weighted neighbours of a sample, not their sum.
    """

    name = "roi_align"
    operands = ("x", "rois", "batch_indices")
    attributes: ClassVar = {
        "height": Attribute(Kind.INT),
        "width": Attribute(Kind.INT),
        "mode": Attribute(Kind.STR, "average", ("average", "max")),
        "sampling_ratio": Attribute(Kind.INT, 0),
        "spatial_scale": Attribute(Kind.FLOAT, 1.0),
        "half_pixel": Attribute(Kind.BOOL, True),
    }

    def infer(self, inputs: Sequence[TensorType | None], attributes: Attributes) -> list[TensorType]:
        """`x` (N, C, H, W), rois (R, 4), batch_indices int32/int64 (R) → (R, C, height, width)."""
        x, rois, batch = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        check_rank("x", x, 4, 4)
        check_rank("rois", rois, 2, 2)
        check_dtype("x", x, FLOATS)
        check_same_dtype(x, rois)
        check_dtype("batch_indices", batch, ("int32", "int64"))
        check_shape("rois", rois, (rois.shape[0], 4))
        check_shape("batch_indices", batch, (rois.shape[0],))
        for key, least in (("height", 1), ("width", 1), ("sampling_ratio", 0)):
            if attributes[key] < least:
                raise TypeInferenceError(
                    f"roi_align: unusable {key}", expected=f"at least {least}", got=attributes[key]
                )
        return [TensorType(x.dtype, (rois.shape[0], x.shape[1], attributes["height"], attributes["width"]))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Attributes) -> list[np.ndarray]:
        """Region by region: per axis two neighbours and two weights for each sample."""
        x, rois, batch = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        if batch.size and (batch.min() < 0 or batch.max() >= x.shape[0]):
            raise EdgeIRError(
                "roi_align: batch index out of range", expected=f"0 to {x.shape[0] - 1}", got=batch.tolist()
            )
        bins = (attributes["height"], attributes["width"])
        y = np.zeros((rois.shape[0], x.shape[1], *bins), np.float64)
        for region in range(rois.shape[0]):
            corners = rois[region].astype(np.float64)
            axes = [
                _samples(corners[1 - axis], corners[3 - axis], x.shape[2 + axis], bins[axis], attributes)
                for axis in (0, 1)
            ]
            (row, row_weight), (column, column_weight) = axes
            # (C, bins, samples, 2 neighbours) along rows, then the same along columns.
            read = x[batch[region]].astype(np.float64)[:, row[..., None, None, None], column]
            weighted = read * row_weight[..., None, None, None] * column_weight
            if not weighted.size:
                continue
            if attributes["mode"] == "max":
                y[region] = weighted.max(axis=(2, 3, 5, 6))
            else:
                y[region] = weighted.sum(axis=(3, 6)).mean(axis=(2, 4))
        return [y.astype(x.dtype)]


def _samples(begin: float, end: float, size: int, bins: int, attributes: Attributes) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights (bins, samples, 2) of the neighbours of each sample along one axis."""
    shift = 0.5 if attributes["half_pixel"] else 0.0
    start = begin * attributes["spatial_scale"] - shift
    length = end * attributes["spatial_scale"] - shift - start
    if not attributes["half_pixel"]:
        length = max(length, 1.0)
    step = length / bins
    count = attributes["sampling_ratio"] or max(ceil(step), 0)
    position = start + step * (np.arange(bins)[:, None] + (np.arange(count) + 0.5) / max(count, 1))
    # Beyond one element outside the map a sample is zero; nearer, it takes the border.
    inside = (position >= -1) & (position <= size)
    position = np.clip(position, 0, size - 1)
    low = np.minimum(np.floor(position).astype(np.int64), size - 1)
    fraction = position - low
    indices = np.stack([low, np.minimum(low + 1, size - 1)], axis=-1)
    return indices, np.stack([1 - fraction, fraction], axis=-1) * inside[..., None]
