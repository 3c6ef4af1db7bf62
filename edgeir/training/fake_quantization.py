"""Quantization that gradients pass through.

A quantized tensor is held as floats: the whole numbers of `quantize`, or for `log_quantize` what its codes stand for.
Gradients pass rounding as if it were the identity, and stop where the range clips (the clipped straight-through
estimator; Bengio, Léonard, Courville 2013; Jacob et al. 2018, section 3). Since the chain rule is applied to
q = round(x / s) + z and to (q − z)·s in turn, the gradient of a learned scale is that of LSQ (Esser et al. 2020,
equation 3): round(x / s) − x / s inside the range, and the bound outside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgeir.ops.logarithmic import code_values

SMALLEST_SCALE = 1e-9
"""A learned scale never falls below it: a step across zero would turn every sign."""

_SLACK = 1e-3
"""Steps by which a value may exceed the range: one that was rounded before by the same scale lies inside."""


class FakeQuantize(torch.autograd.Function):
    """clamp(round_half_even(x / scale) + zero, low, high) as floats.

    Operands: x and scale of one floating dtype, zero of it too; scale and zero broadcast against x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: float, high: float) -> Tensor:
        """Saves where the range clips, and x where the scale is learned.

        Under a learned scale the bounds are compared with x / scale + zero, as LSQ does; otherwise with the rounded
        value, so that a weight that a scale was made for (max |w| / 127) is not cut off by a rounding error.
        """
        y = torch.div(x, scale)
        of_x, of_scale = ctx.needs_input_grad[:2]
        outside = (y < low - zero - _SLACK) | (y > high - zero + _SLACK) if of_scale else None
        y = y.round_().add_(zero)
        if outside is None and of_x:
            outside = (y < low) | (y > high)
        if outside is not None:
            ctx.save_for_backward(outside, scale, x if of_scale else None)
        return y.clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """gradient / scale inside; of the scale −gradient·x / scale², inside."""
        passed, of_scale = _straight_through(ctx, gradients[0])
        return passed, of_scale, None, None, None


def _straight_through(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and of the scale, from what `forward` saved: where the range clips, the scale, and x or None."""
    outside, scale, x = ctx.saved_tensors
    passed = (gradient / scale).masked_fill_(outside, 0)
    of_scale = None if x is None else (passed * x / -scale).sum_to_size(scale.shape)
    return passed if ctx.needs_input_grad[0] else None, of_scale


class FakeFloat8(torch.autograd.Function):
    """x / scale + zero rounded to a float8 type, saturating, as floats of x's dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
        """Saves where the range clips."""
        limit = torch.finfo(dtype).max
        y = x / scale + zero
        ctx.save_for_backward(y.abs() > limit, scale, x if ctx.needs_input_grad[1] else None)
        return y.clamp(-limit, limit).float().to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """As `FakeQuantize`."""
        passed, of_scale = _straight_through(ctx, gradients[0])
        return passed, of_scale, None, None


class FakeLogQuantize(torch.autograd.Function):
    """sign(x)·2^clamp(round(log2(|x| / scale)), −q, q − 1) with q = 2^(bits − 2), 0 where the exponent is −q.

    Small values become 0 and keep their gradient, so that zeros can grow; only above the largest exponent it stops.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bits: int) -> Tensor:
        """In float64, as the definition; NaN gives 0."""
        ratio = x.double() / scale.double()
        codes, outside = log_codes(ratio, bits)
        ctx.save_for_backward(outside, scale, x if ctx.needs_input_grad[1] else None)
        table = torch.from_numpy(code_values(bits)).to(x.device, x.dtype)
        return table[codes]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """gradient / scale inside; of the scale −gradient·x / scale², inside."""
        passed, of_scale = _straight_through(ctx, gradients[0])
        return passed, of_scale, None


def log_codes(ratio: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes (int64) of the ratios |x| / scale with their signs, and where the largest exponent clips."""
    q = 1 << (bits - 2)
    exponent = torch.log2(ratio.abs()).round()
    index = exponent.clamp(-q, q - 1).add(q).nan_to_num(0.0).long()
    codes = torch.where((index > 0) & (ratio < 0), index | (1 << (bits - 1)), index)
    return codes, exponent > q - 1


class LearnedScale(torch.autograd.Function):
    """A scale that is a parameter: kept positive, its gradient multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor, factor: float) -> Tensor:
        """At least `SMALLEST_SCALE`."""
        ctx.factor = factor
        return scale.clamp(min=SMALLEST_SCALE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient times the factor, as if nothing were clamped."""
        return gradients[0] * ctx.factor, None


def gradient_factor(x: Tensor, scale: Tensor, highest: float, weight: bool) -> float:
    """LSQ's factor 1 / √(N·Q_max) (Esser et al. 2020, section 2.2).

    Args:
        x: what is quantized.
        scale: its scales.
        highest: Q_max, the largest quantized value.
        weight: whether x is a weight: N counts its elements per scale; else the elements of one sample (axis 0).
    """
    count = x.numel() / max(1, scale.numel())
    if not weight and x.ndim:
        count /= max(1, x.shape[0])
    return (max(count, 1.0) * highest) ** -0.5
