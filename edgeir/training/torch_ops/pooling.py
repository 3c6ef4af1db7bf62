"""Maximum and average over sliding windows."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from edgeir.ops.windows import overhang, static_counts, window_counts
from edgeir.training.torch_ops.convolution import convolve, pad_ends
from edgeir.training.torch_ops.registry import Call, Representation, Results, reference, torch_op

_MAXIMA = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGES = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class _Window:
    """A pool's window on one tensor: its attributes, and how far the last window reaches beyond the padding."""

    def __init__(self, call: Call) -> None:
        self.kernel, self.strides, self.padding, self.dilations = (
            list(call.attributes[name]) for name in ("kernel", "strides", "padding", "dilations")
        )
        sizes = list(call.tensor(0).shape[2:])
        self.rank = len(sizes)
        self.begins, self.ends = self.padding[: self.rank], self.padding[self.rank :]
        arguments = (self.kernel, self.strides, self.padding, self.dilations)
        self.counts = static_counts(window_counts(sizes, *arguments, call.attributes["ceil_mode"]))
        self.beyond = overhang(sizes, self.counts, *arguments)
        self.native = (
            not any(self.beyond)
            and self.counts == window_counts(sizes, *arguments)
            and self.begins == self.ends
            and all(2 * pad <= extent for pad, extent in zip(self.begins, self.kernel, strict=True))
        )

    def pad(self, x: Tensor, value: float) -> Tensor:
        """`x` padded so that every window lies inside."""
        return pad_ends(x, self.begins, [e + more for e, more in zip(self.ends, self.beyond, strict=True)], value)

    def crop(self, y: Tensor) -> Tensor:
        """The windows that count: in ceil mode none that starts in the end padding."""
        return y[(..., *(slice(count) for count in self.counts))]


@torch_op("max_pool", accepts=frozenset({Representation.INTEGERS}), keeps=True)
def max_pool(call: Call) -> Results:
    """torch's pool, on a tensor padded with −∞ where torch cannot pad itself."""
    x = call.tensor(0)
    if not x.is_floating_point():
        return reference(call)
    window = _Window(call)
    begins = window.begins if window.native else [0] * window.rank
    padded = x if window.native else window.pad(x, -math.inf)
    return window.crop(_MAXIMA[window.rank](padded, window.kernel, window.strides, begins, window.dilations))


@torch_op("average_pool")
def average_pool(call: Call) -> Results:
    """torch's pool where it can express the window; otherwise sums over windows, divided by counts."""
    x, include = call.tensor(0), call.attributes["count_include_pad"]
    window = _Window(call)
    dilated = any(dilation != 1 for dilation in window.dilations)
    if window.native and not dilated:
        return _AVERAGES[window.rank](x, window.kernel, window.strides, window.begins, False, include)
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if include:
        # What a last window in ceil mode takes from beyond the padding still does not count.
        ones = pad_ends(pad_ends(ones, window.begins, window.ends, 1.0), [0] * window.rank, window.beyond)
    else:
        ones = window.pad(ones, 0.0)
    return _sums(window.pad(x, 0.0), window) / _sums(ones, window)


def _sums(x: Tensor, window: _Window) -> Tensor:
    """The sum over each window of a tensor that holds them all."""
    rank = window.rank
    flat = x.reshape(-1, 1, *x.shape[2:])
    ones = torch.ones((1, 1, *window.kernel), dtype=x.dtype, device=x.device)
    sums = convolve(flat, ones, None, window.strides, [0] * 2 * rank, window.dilations, 1)
    return window.crop(sums.reshape(*x.shape[:2], *sums.shape[2:]))
