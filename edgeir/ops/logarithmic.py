"""Logarithmic quantization: x ≈ sign·B·2^e, stored as sign and exponent.

Miyashita, Lee, Murmann: "Convolutional Neural Networks using Logarithmic Data Representation", 2016, section 3. A code
of `bits` bits holds the sign in its top bit and e + q below it, q = 2^(bits−2), so that −q ≤ e < q. The code of e = −q
is kept for zero: what would be that small becomes zero, and zeros (pruned weights) stay zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.broadcasting import broadcast_shapes, broadcasts_to
from edgeir.ops.operands import ARITHMETIC_FLOATS, check_dtype, present


def code_dtype(bits: int) -> str:
    """How codes of that many bits are stored."""
    return "uint4" if bits == 4 else "uint8"


def code_values(bits: int) -> np.ndarray:
    """What each code stands for with B = 1, as float64 of 2^bits elements."""
    half, q = 1 << (bits - 1), 1 << (bits - 2)
    magnitudes = np.ldexp(1.0, np.arange(half) - q)
    magnitudes[0] = 0.0
    return np.concatenate([magnitudes, -magnitudes])


def _check(attributes: Mapping[str, Any], scale: TensorType, x: TensorType) -> int:
    bits = attributes["bits"]
    if not 3 <= bits <= 8:
        raise TypeInferenceError("bits is out of range", expected="3 to 8", got=bits)
    check_dtype("scale", scale, ARITHMETIC_FLOATS)
    if not broadcasts_to(scale.shape, x.shape):
        raise TypeInferenceError("scale does not broadcast to x", expected=str(x), got=str(scale))
    return bits


@register
class LogQuantize(Op):
    """Codes of e = clamp(round(log2(|x| / scale)), −q, q − 1) and of x's sign; e = −q, and x = 0, give code 0.

    Operands: x (float), scale (float, positive), which broadcasts against x. round is half to even. Result: `uint4`
    for 4 bits, otherwise `uint8`.
    """

    name = "log_quantize"
    operands = ("x", "scale")
    attributes: ClassVar[Mapping[str, Attribute]] = {"bits": Attribute(Kind.INT, 4)}
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The shape of x, of codes."""
        x, scale = present(inputs, 0), present(inputs, 1)
        check_dtype("x", x, ARITHMETIC_FLOATS)
        return [TensorType(code_dtype(_check(attributes, scale, x)), x.shape)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """In float64; NaN gives code 0."""
        x, scale = present(inputs, 0).astype(np.float64), present(inputs, 1).astype(np.float64)
        bits = attributes["bits"]
        q = 1 << (bits - 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            exponent = np.rint(np.log2(np.abs(x) / scale))
        index = np.where(np.isnan(exponent), 0, np.clip(exponent, -q, q - 1) + q).astype(np.uint8)
        codes = np.where((index > 0) & (x < 0), index | (1 << (bits - 1)), index).astype(np.uint8)
        return [codes.astype(numpy_dtype(code_dtype(bits)))]


@register
class LogDequantize(Op):
    """sign·scale·2^e, in scale's dtype; 0 for code 0. Operands: codes of `log_quantize`, scale (float)."""

    name = "log_dequantize"
    operands = ("codes", "scale")
    attributes: ClassVar[Mapping[str, Attribute]] = {"bits": Attribute(Kind.INT, 4)}
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The shape of codes, in scale's dtype."""
        codes, scale = present(inputs, 0), present(inputs, 1)
        check_dtype("codes", codes, {code_dtype(_check(attributes, scale, codes))})
        return [TensorType(scale.dtype, broadcast_shapes(codes.shape, scale.shape))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The value of each code times scale, in float64."""
        codes, scale = present(inputs, 0), present(inputs, 1)
        bits = attributes["bits"]
        value = code_values(bits)[codes.astype(np.uint8) & ((1 << bits) - 1)]
        return [(value * scale.astype(np.float64)).astype(scale.dtype)]
