"""Logarithmic quantization, held as the powers of two that codes stand for."""

from __future__ import annotations

import torch

from edgeir.ops.logarithmic import code_values
from edgeir.training.fake_quantization import FakeLogQuantize
from edgeir.training.torch_ops.quantization import used_scale
from edgeir.training.torch_ops.registry import Call, Representation, Results, torch_op


def _highest(bits: int) -> float:
    return 2.0 ** ((1 << (bits - 2)) - 1)


@torch_op("log_quantize")
def log_quantize(call: Call) -> Results:
    """0 and ±2^e as floats of x's dtype."""
    bits = call.attributes["bits"]
    x, scale = call.tensor(0), used_scale(call, 1, _highest(bits))
    dtype = torch.promote_types(x.dtype, scale.dtype)
    return FakeLogQuantize.apply(x.to(dtype), scale.to(dtype), bits)  # type: ignore[no-any-return]


@torch_op("log_dequantize", accepts=frozenset({Representation.POWERS}))
def log_dequantize(call: Call) -> Results:
    """The value of each code times scale, in float64."""
    bits = call.attributes["bits"]
    x, scale = call.tensor(0), used_scale(call, 1, _highest(bits))
    if not x.is_floating_point():
        table = torch.from_numpy(code_values(bits)).to(x.device)
        x = table[x.long() & ((1 << bits) - 1)]
    return (x.double() * scale.double()).to(scale.dtype)
