"""Averages (or maxima) of bilinear samples inside regions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeir.errors import EdgeIRError
from edgeir.training.torch_ops.registry import Call, Results, torch_op


@torch_op("roi_align")
def roi_align(call: Call) -> Results:
    """Region by region, as the reference; gradients reach x and the regions."""
    x, rois, batch = call.tensor(0), call.tensor(1), call.tensor(2).tolist()
    if any(not 0 <= index < x.shape[0] for index in batch):
        raise EdgeIRError("roi_align: batch index out of range", expected=f"0 to {x.shape[0] - 1}", got=batch)
    bins = (call.attributes["height"], call.attributes["width"])
    results = []
    for region, image in enumerate(batch):
        corners = rois[region]
        (row, row_weight), (column, column_weight) = (
            _samples(corners[1 - axis], corners[3 - axis], x.shape[2 + axis], bins[axis], call) for axis in (0, 1)
        )
        # (C, bins, samples, 2 neighbours) along rows, then the same along columns.
        read = x[image][:, row[..., None, None, None], column]
        weighted = read * row_weight[..., None, None, None] * column_weight
        if not weighted.numel():
            results.append(x.new_zeros((x.shape[1], *bins)))
        elif call.attributes["mode"] == "max":
            results.append(weighted.amax((2, 3, 5, 6)))
        else:
            results.append(weighted.sum((3, 6)).mean((2, 4)))
    return torch.stack(results) if results else x.new_zeros((0, x.shape[1], *bins))


def _samples(begin: Tensor, end: Tensor, size: int, bins: int, call: Call) -> tuple[Tensor, Tensor]:
    """Indices and weights (bins, samples, 2) of the neighbours of each sample along one axis."""
    scale, half = call.attributes["spatial_scale"], call.attributes["half_pixel"]
    shift = 0.5 if half else 0.0
    start = begin * scale - shift
    length = end * scale - shift - start
    if not half:
        length = length.clamp(min=1.0)
    step = length / bins
    count = call.attributes["sampling_ratio"] or max(math.ceil(step.item()), 0)
    # In the type of the corners: scalars would not widen vectors.
    like = {"dtype": begin.dtype, "device": begin.device}
    bin_number = torch.arange(bins, **like)[:, None]
    sample = (torch.arange(count, **like) + 0.5) / max(count, 1)
    position = start + step * (bin_number + sample)
    # Beyond one element outside the map a sample is zero; nearer, it takes the border.
    inside = (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    low = torch.floor(position.detach()).long().clamp(max=size - 1)
    fraction = position - low
    indices = torch.stack([low, (low + 1).clamp(max=size - 1)], -1)
    return indices, torch.stack([1 - fraction, fraction], -1) * inside[..., None]
