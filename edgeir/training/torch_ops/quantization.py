"""Affine quantization, held as floats."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeir.ops.operands import integer_range
from edgeir.training.fake_quantization import FakeFloat8, FakeQuantize, LearnedScale, gradient_factor
from edgeir.training.tensor_conversion import FLOAT8
from edgeir.training.torch_ops.registry import Call, Representation, Results, torch_op


def used_scale(call: Call, position: int, highest: float) -> Tensor:
    """The scale operand; one that is learned is kept positive and has its gradient reduced."""
    scale, x = call.tensor(position), call.tensor(0)
    if call.node.input(position).name not in call.state.learned_scales:
        return scale
    factor = gradient_factor(x, scale, highest, call.node.input(0).name in call.state.weights)
    return LearnedScale.apply(scale, factor)  # type: ignore[no-any-return]


def _highest(dtype: str) -> float:
    return float(torch.finfo(getattr(torch, dtype)).max if dtype in FLOAT8 else integer_range(dtype)[1])


@torch_op("quantize", any_dtype=True)
def quantize(call: Call) -> Results:
    """Whole numbers as floats: float64 for 32-bit integers, else x's precision. NaN stays NaN in training mode."""
    name = call.type(2).dtype
    x, zero = call.tensor(0), call.tensor(2)
    scale = used_scale(call, 1, _highest(name))
    wide = torch.float64 in (x.dtype, scale.dtype)
    dtype = torch.float64 if wide else torch.float32
    x, scale = x.to(dtype), scale.to(dtype)
    if name in FLOAT8:
        return FakeFloat8.apply(x, scale, zero.to(dtype), zero.dtype)  # type: ignore[no-any-return]
    if name in ("int32", "uint32"):
        x, scale = _exact_ratio(x, scale)
    low, high = integer_range(name)
    y: Tensor = FakeQuantize.apply(x, scale, zero.to(x.dtype), float(low), float(high))  # type: ignore[assignment]
    return y if call.state.training else torch.where(y.isnan(), 0, y)


def _exact_ratio(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """float64 operands whose quotient rounds as the float32 one does, so that sums with zero are exact."""
    ratio = (x / scale).double()
    return ratio, torch.ones((), dtype=torch.float64, device=x.device)


@torch_op("dequantize", accepts=frozenset({Representation.INTEGERS}), any_dtype=True)
def dequantize(call: Call) -> Results:
    """(x − zero)·scale in float32 or float64; the difference of wide integers is exact."""
    x, zero = call.tensor(0), call.optional(2)
    name = call.type(0).dtype
    scale = used_scale(call, 1, _highest(name))
    dtype = torch.float64 if scale.dtype == torch.float64 else torch.float32
    # 8- and 16-bit integers and their differences are exact in float32.
    if name in ("int32", "uint32"):
        x, zero = x.double(), None if zero is None else zero.double()
    difference = x.to(dtype) if zero is None else (_float(x, dtype) - _float(zero, dtype)).to(dtype)
    return difference * scale.to(dtype)


def _float(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == torch.float64 else x.to(dtype)
