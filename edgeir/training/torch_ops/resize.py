"""Resampling along axes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeir.ops.resize import Taps, resampled_axes
from edgeir.training.torch_ops.registry import Call, Results, reference, torch_op


@torch_op("resize")
def resize(call: Call) -> Results:
    """Axis by axis: a selection where every element has one tap, else a product with the matrix of weights."""
    x = call.tensor(0)
    if not x.is_floating_point():
        return reference(call)
    sizes = call.attributes["sizes"]
    if not x.numel():
        return x.new_zeros(sizes)
    nearest = call.attributes["mode"] == "nearest"
    for axis, taps in resampled_axes(tuple(x.shape), sizes, call.attributes):
        if nearest:
            x = x.index_select(axis, torch.from_numpy(taps.indices[:, 0].copy()).to(x.device))
        else:
            x = torch.matmul(x.movedim(axis, -1), _matrix(taps, x.shape[axis], x).T).movedim(-1, axis)
        if taps.outside.any():
            outside = torch.from_numpy(taps.outside).to(x.device).reshape(-1, *(1,) * (x.ndim - axis - 1))
            x = torch.where(outside, call.attributes["extrapolation_value"], x)
    return x


def _matrix(taps: Taps, size: int, like: Tensor) -> Tensor:
    """Weights (output size, input size) of one axis."""
    matrix = np.zeros((len(taps.indices), size))
    np.add.at(matrix, (np.arange(len(taps.indices))[:, None], taps.indices), taps.weights)
    return torch.from_numpy(matrix).to(like.device, like.dtype)
