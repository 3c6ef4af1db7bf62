"""Affine quantization: q = round(x / scale) + zero, x ≈ (q − zero)·scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dtype import INTEGERS
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.broadcasting import broadcast_shapes, broadcasts_to
from edgeir.ops.cast import FLOAT8, cast_array
from edgeir.ops.operands import ARITHMETIC_FLOATS, check_dtype, check_same_dtype, optional, present, saturate

_QUANTIZED = INTEGERS - {"int64", "uint64"} | FLOAT8


def _check_parameter(name: str, x: TensorType, parameter: TensorType) -> None:
    if not broadcasts_to(parameter.shape, x.shape):
        raise TypeInferenceError(
            f"{name} does not broadcast to x", expected=f"a shape that broadcasts to {x}", got=str(parameter)
        )


@register
class Quantize(Op):
    """saturate(round_half_even(x / scale) + zero), in zero's dtype; ONNX QuantizeLinear.

    Operands: x (float), scale (x's dtype or float32), zero (integer, or float8, for which there is no rounding to
    whole numbers); scale and zero broadcast against x.
    """

    name = "quantize"
    operands = ("x", "scale", "zero")
    attributes: ClassVar[Mapping[str, Attribute]] = {"dtype": Attribute(Kind.DTYPE, None)}
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The shape of x, in zero's dtype."""
        x, scale, zero = (present(inputs, position) for position in range(3))
        check_dtype("x", x, ARITHMETIC_FLOATS | {"int32"})
        check_dtype("scale", scale, ARITHMETIC_FLOATS)
        check_dtype("zero", zero, _QUANTIZED)
        _check_parameter("scale", x, scale)
        _check_parameter("zero", x, zero)
        if attributes["dtype"] not in (None, zero.dtype):
            raise TypeInferenceError("dtype differs from zero's", expected=zero.dtype, got=attributes["dtype"])
        return [TensorType(zero.dtype, x.shape)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """In float32 (float64 if x or scale is): divide, round, shift, clamp."""
        x, scale, zero = (present(inputs, position) for position in range(3))
        dtype = np.float64 if np.float64 in (x.dtype, scale.dtype) else np.float32
        ratio = x.astype(dtype) / scale.astype(dtype)
        if zero.dtype.name in FLOAT8:
            return [cast_array(ratio + zero.astype(dtype), zero.dtype.name)]
        # float64 holds the sum exactly for every integer type that is allowed.
        return [saturate(np.rint(ratio).astype(np.float64) + zero.astype(np.float64), zero.dtype.name)]


@register
class Dequantize(Op):
    """(x − zero)·scale, in scale's dtype; ONNX DequantizeLinear. scale and zero broadcast against x."""

    name = "dequantize"
    operands = ("x", "scale", "zero?")
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The shape of x, in scale's dtype."""
        x, scale, zero = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        check_dtype("x", x, _QUANTIZED)
        check_dtype("scale", scale, ARITHMETIC_FLOATS)
        check_same_dtype(x, zero)
        for name, parameter in (("scale", scale), ("zero", zero)):
            if parameter is not None:
                _check_parameter(name, x, parameter)
        return [TensorType(scale.dtype, broadcast_shapes(x.shape, scale.shape))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The difference in 64 bits, the product in float32 or float64."""
        x, scale, zero = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        exact = np.float32 if x.dtype.name in FLOAT8 else np.int64
        difference = x.astype(exact) if zero is None else x.astype(exact) - zero.astype(exact)
        dtype = np.float64 if scale.dtype == np.float64 else np.float32
        return [(difference.astype(dtype) * scale.astype(dtype)).astype(scale.dtype)]
