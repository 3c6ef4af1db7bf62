"""Sampling at positions that a tensor gives; any number of spatial axes."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from edgeir.ops.grid_sample import CUBIC_COEFFICIENT
from edgeir.training.torch_ops.registry import Call, Results, torch_op


def cubic_weight(distance: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel on [−2, 2] (Keys 1981, eq. 4)."""
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0))


def _reflect(x: Tensor, low: float, high: float) -> Tensor:
    span = high - low
    if span <= 0:
        return torch.full_like(x, low)
    folded = torch.remainder(x - low, 2 * span)
    return low + torch.minimum(folded, 2 * span - folded)


def _fold(x: Tensor, size: int, call: Call) -> Tensor:
    """Positions outside the axis brought inside, as the padding mode says; `zeros` leaves them."""
    match call.attributes["padding_mode"]:
        case "border":
            return x.clamp(0, size - 1)
        case "reflection":
            low, high = (0.0, size - 1.0) if call.attributes["align_corners"] else (-0.5, size - 0.5)
            return torch.where((x < low) | (x > high), _reflect(x, low, high), x)
    return x


def _positions(normalized: Tensor, size: int, align_corners: bool) -> Tensor:
    if align_corners:
        return (normalized + 1) / 2 * (size - 1)
    return ((normalized + 1) * size - 1) / 2


def _taps(x: Tensor, size: int, call: Call) -> list[tuple[Tensor, Tensor]]:
    """(indices, weights) of each tap along one axis; indices outside remain where they count as zero."""
    mode = call.attributes["mode"]
    if mode == "nearest":
        nearest = _fold(torch.round(x.detach()), size, call)
        return [(_fold(torch.trunc(nearest), size, call).long(), torch.ones_like(x))]
    if mode == "linear":
        x = _fold(x, size, call)
    base = torch.floor(x.detach())
    taps = []
    for offset in (0, 1) if mode == "linear" else (-1, 0, 1, 2):
        position = base + offset
        distance = position - x
        weight = (1 - distance.abs()).clamp(min=0) if mode == "linear" else cubic_weight(distance, CUBIC_COEFFICIENT)
        taps.append((torch.trunc(_fold(position, size, call)).long(), weight))
    return taps


@torch_op("grid_sample")
def grid_sample(call: Call) -> Results:
    """Sum over the corners of the kernel, as the reference; gradients reach x and the grid."""
    x, grid = call.tensor(0), call.tensor(1)
    sizes = x.shape[2:]
    axes = [
        _taps(_positions(grid[..., len(sizes) - 1 - axis], size, call.attributes["align_corners"]), size, call)
        for axis, size in enumerate(sizes)
    ]
    batch = torch.arange(x.shape[0], device=x.device).reshape(-1, *(1,) * (grid.ndim - 2))
    channels_last = x.movedim(1, -1)
    total = x.new_zeros((x.shape[0], *grid.shape[1:-1], x.shape[1]))
    for taps in itertools.product(*axes):
        weight = torch.ones_like(grid[..., 0])
        position = []
        for (index, factor), size in zip(taps, sizes, strict=True):
            weight = weight * torch.where((index >= 0) & (index < size), factor, 0)
            position.append(index.clamp(0, max(size - 1, 0)))
        total = total + channels_last[(batch, *position)] * weight[..., None].to(x.dtype)
    return total.movedim(-1, 1)
