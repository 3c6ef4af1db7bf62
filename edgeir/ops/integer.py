"""Convolution and product of quantized integers, summed in 32 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim
from edgeir.ir.op import Attribute, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.convolution import Conv
from edgeir.ops.matmul import Matmul
from edgeir.ops.operands import check_dtype, optional, present

ACTIVATIONS = frozenset({"int8", "uint8"})
"""Element types of the left operand."""

WEIGHTS = ACTIVATIONS | {"int4", "uint4"}
"""Element types of the right operand."""

ZERO_POINTS = {"conv_integer": (3, 4), "matmul_integer": (2, 3)}
"""Operator → positions of the zero points of its left and right operand."""


def _check_zero(name: str, of: TensorType, zero: TensorType | None, channels: Dim | None = None) -> None:
    """A zero point is a scalar, or (where `channels` is given) one value per output channel, in its tensor's dtype."""
    if zero is None:
        return
    check_dtype(name, zero, {of.dtype})
    if zero.rank and (channels is None or zero.shape != (channels,)):
        expected = "a scalar" if channels is None else f"a scalar or [{channels}]"
        raise TypeInferenceError(f"{name} has the wrong shape", expected=expected, got=str(zero))


def _as(dtype: str, *types: TensorType | None) -> list[TensorType | None]:
    return [None if type is None else TensorType(dtype, type.shape) for type in types]


def _difference(x: np.ndarray, zero: np.ndarray | None, trailing: int = 0) -> np.ndarray:
    """x − zero in float64, which holds every sum of products of 9-bit integers exactly that fits memory."""
    wide = x.astype(np.int8 if x.dtype.name == "int4" else np.uint8 if x.dtype.name == "uint4" else x.dtype)
    if zero is None:
        return wide.astype(np.float64)
    offset = zero.astype(np.int16).astype(np.float64)
    return wide.astype(np.float64) - offset.reshape((*offset.shape, *(1,) * trailing))


def _wrap(total: np.ndarray) -> np.ndarray:
    return total.astype(np.int64).astype(np.int32)


@register
class ConvInteger(Conv):
    """y[n, o, p] = b[o] + Σ (x[n, c, p·strides + k·dilations − padding] − x_zero)·(w[o, c, k] − w_zero[o]) in int32.

    Operands: x (N, C, *S) int8 or uint8; w (O, C/groups, *K) int8, uint8, int4 or uint4; b (O) int32 or absent;
    x_zero a scalar of x's dtype, w_zero a scalar or (O) of w's dtype, absent for 0. Padding counts as x_zero and so
    adds nothing. Attributes and result shape are those of `conv`. Sums wrap around as int32 does. ONNX ConvInteger with
    a bias.
    """

    name = "conv_integer"
    operands = ("x", "w", "b?", "x_zero?", "w_zero?")

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """(N, O, *windows) in int32."""
        x, w, b = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        check_dtype("x", x, ACTIVATIONS)
        check_dtype("w", w, WEIGHTS)
        if b is not None:
            check_dtype("b", b, {"int32"})
        _check_zero("x_zero", x, optional(inputs, 3))
        _check_zero("w_zero", w, optional(inputs, 4), w.shape[0] if w.rank else None)
        return super().infer(_as("int32", x, w, b), attributes)

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The convolution of the differences in float64, which is exact, wrapped to 32 bits."""
        x, w, b = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        left = _difference(x, optional(inputs, 3))
        right = _difference(w, optional(inputs, 4), trailing=w.ndim - 1)
        bias = None if b is None else b.astype(np.float64)
        return [_wrap(super().evaluate([left, right, bias], attributes)[0])]


@register
class MatmulInteger(Op):
    """Σ (a[m, k] − a_zero)·(b[k, n] − b_zero[n]) in int32 over the last two axes; leading axes broadcast.

    Operands: a int8 or uint8, b int8, uint8, int4 or uint4, each transposed first if asked; a_zero a scalar of a's
    dtype, b_zero a scalar or (N) of b's dtype, absent for 0. ONNX MatMulInteger.
    """

    name = "matmul_integer"
    operands = ("a", "b", "a_zero?", "b_zero?")
    attributes: ClassVar[Mapping[str, Attribute]] = Matmul.attributes
    pattern = Pattern.ANCHOR

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """(*batch, M, N) in int32."""
        a, b = present(inputs, 0), present(inputs, 1)
        check_dtype("a", a, ACTIVATIONS)
        check_dtype("b", b, WEIGHTS)
        found = _MATMUL.infer(_as("int32", a, b), attributes)
        _check_zero("a_zero", a, optional(inputs, 2))
        _check_zero("b_zero", b, optional(inputs, 3), found[0].shape[-1])
        return found

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The product of the differences in float64, which is exact, wrapped to 32 bits."""
        a, b = present(inputs, 0), present(inputs, 1)
        zero = optional(inputs, 3)
        # Columns are rows where b is transposed.
        trailing = int(attributes["transpose_b"] and zero is not None and zero.ndim == 1)
        left, right = _difference(a, optional(inputs, 2)), _difference(b, zero, trailing)
        return [_wrap(_MATMUL.evaluate([left, right], attributes)[0])]

    def macs(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Dim:
        """Output elements times K."""
        return _MATMUL.macs(inputs, outputs, attributes)


_MATMUL = Matmul()
