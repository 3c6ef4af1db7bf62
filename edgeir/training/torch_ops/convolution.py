"""Convolution and its transpose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeir.training.torch_ops.registry import Call, Results, reference, torch_op

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSES = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def pad_ends(x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` with its last axes padded by a value (negative amounts crop)."""
    amounts: list[int] = []
    # torch counts axes from the last one.
    for begin, end in zip(reversed(begins), reversed(ends), strict=True):
        amounts += [begin, end]
    return functional.pad(x, amounts, value=value) if any(amounts) else x


def convolve(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Tensor:
    """Cross-correlation with padding (all begins, then all ends) that may differ between the ends."""
    rank = x.ndim - 2
    begins, ends = list(padding[:rank]), list(padding[rank:])
    if begins != ends:
        x, begins = pad_ends(x, begins, ends), [0] * rank
    convolution = _CONVOLUTIONS[rank]
    if groups > 1 and max(strides) > 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # oneDNN has no fast gradient of strided grouped convolutions in bfloat16: 25 times slower than in float32.
        lower = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            b = None if b is None else b.float()
            return convolution(x.float(), w.float(), b, list(strides), begins, list(dilations), groups).to(lower)
    return convolution(x, w, b, list(strides), begins, list(dilations), groups)


@torch_op("conv")
def conv(call: Call) -> Results:
    """torch's convolution."""
    x, w, b = call.tensor(0), call.tensor(1), call.optional(2)
    if not x.is_floating_point():
        return reference(call)
    a = call.attributes
    return convolve(x, w, b, a["strides"], a["padding"], a["dilations"], a["groups"])


@torch_op("conv_transpose")
def conv_transpose(call: Call) -> Results:
    """torch's transposed convolution; what its padding cannot express is cropped and padded around it."""
    x, w, b = call.tensor(0), call.tensor(1), call.optional(2)
    if not x.is_floating_point():
        return reference(call)
    a, rank = call.attributes, x.ndim - 2
    begins, ends, extra = list(a["padding"][:rank]), list(a["padding"][rank:]), list(a["output_padding"])
    strides, dilations = list(a["strides"]), list(a["dilations"])
    function, sizes = _TRANSPOSES[rank], call.node.output.type.static_shape[2:]
    # torch takes output_padding only below the stride or the dilation, and makes no empty results.
    small = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if begins == ends and small and all(sizes):
        return function(x, w, b, strides, begins, extra, a["groups"], dilations)
    y = pad_ends(function(x, w, None, strides, 0, 0, a["groups"], dilations), [0] * rank, extra)
    y = y[(..., *(slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)))]
    return y if b is None else y + b.reshape(-1, *(1,) * rank)
