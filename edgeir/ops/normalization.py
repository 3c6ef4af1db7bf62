"""Normalisation: batch_norm, layer_norm, softmax, log_softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.broadcasting import broadcasts_to, format_shape
from edgeir.ops.operands import (
    ARITHMETIC_FLOATS,
    check_axis,
    check_dtype,
    check_rank,
    check_same_dtype,
    optional,
    present,
    widen,
)


@register
class BatchNorm(Op):
    """(x − mean) / √(variance + epsilon)·scale + bias, with given statistics per channel (axis 1).

    Operands: x (N, C, …); scale, bias, mean, variance (C); floating point. The result has x's type.
    """

    name = "batch_norm"
    operands = ("x", "scale", "bias", "mean", "variance")
    attributes: ClassVar[Mapping[str, Attribute]] = {"epsilon": Attribute(Kind.FLOAT)}
    pattern = Pattern.OPAQUE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """x's type."""
        x = present(inputs, 0)
        check_dtype("x", x, ARITHMETIC_FLOATS)
        check_rank("x", x, 2)
        for position, name in enumerate(self.operands[1:], start=1):
            parameter = present(inputs, position)
            check_dtype(name, parameter, ARITHMETIC_FLOATS)
            if parameter.shape != (x.shape[1],):
                raise TypeInferenceError(f"{name} has the wrong shape", expected=f"[{x.shape[1]}]", got=str(parameter))
        return [x]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The formula."""
        x = present(inputs, 0)
        shape = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, variance = (widen(present(inputs, position)).reshape(shape) for position in range(1, 5))
        deviation = np.sqrt(variance + np.asarray(attributes["epsilon"], variance.dtype))
        return [((widen(x) - mean) / deviation * scale + bias).astype(x.dtype)]


@register
class LayerNorm(Op):
    """(x − mean) / √(variance + epsilon)·scale + bias, with mean and variance over the axes ≥ `axis`.

    Operands: x (floating point); scale and bias (optional) of x's dtype, which broadcast to x's axes ≥ `axis`.
    float16 and bfloat16 are accumulated in float32.
    """

    name = "layer_norm"
    operands = ("x", "scale", "bias?")
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "axis": Attribute(Kind.INT),
        "epsilon": Attribute(Kind.FLOAT),
    }
    pattern = Pattern.ANCHOR

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """x's type."""
        x, scale, bias = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        check_dtype("x", x, ARITHMETIC_FLOATS)
        check_same_dtype(x, scale, bias)
        check_axis(attributes["axis"], x)
        normalized = x.shape[attributes["axis"] :]
        for name, parameter in (("scale", scale), ("bias", bias)):
            if parameter is not None and not broadcasts_to(parameter.shape, normalized):
                expected = f"a shape that broadcasts to {format_shape(normalized)}"
                raise TypeInferenceError(f"{name} has the wrong shape", expected=expected, got=str(parameter))
        return [x]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The formula, in two passes."""
        x, scale, bias = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        wide = widen(x)
        axes = tuple(range(attributes["axis"], x.ndim))
        centred = wide - wide.mean(axis=axes, keepdims=True)
        variance = (centred * centred).mean(axis=axes, keepdims=True)
        y = centred / np.sqrt(variance + np.asarray(attributes["epsilon"], wide.dtype)) * widen(scale)
        return [(y if bias is None else y + widen(bias)).astype(x.dtype)]


class _Softmax(Op):
    operands = ("x",)
    attributes: ClassVar[Mapping[str, Attribute]] = {"axis": Attribute(Kind.INT)}
    pattern = Pattern.ANCHOR

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """x's type."""
        x = present(inputs, 0)
        check_dtype("x", x, ARITHMETIC_FLOATS)
        check_axis(attributes["axis"], x)
        return [x]


@register
class Softmax(_Softmax):
    """exp(x) / Σ exp(x) along one axis, computed on x − max(x)."""

    name = "softmax"

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The formula."""
        x, axis = present(inputs, 0), attributes["axis"]
        if not x.size:
            return [x]
        powers = np.exp(widen(x) - widen(x).max(axis=axis, keepdims=True))
        return [(powers / powers.sum(axis=axis, keepdims=True)).astype(x.dtype)]


@register
class LogSoftmax(_Softmax):
    """x − max(x) − log Σ exp(x − max(x)) along one axis."""

    name = "log_softmax"

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The formula."""
        x, axis = present(inputs, 0), attributes["axis"]
        if not x.size:
            return [x]
        shifted = widen(x) - widen(x).max(axis=axis, keepdims=True)
        return [(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))).astype(x.dtype)]
