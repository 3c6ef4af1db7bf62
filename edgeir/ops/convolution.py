"""Convolution and its transpose, for 1 to 3 spatial axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.dims import Dim, product
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType, parse_layout
from edgeir.ops.operands import NUMERIC, check_dtype, check_rank, check_same_dtype, optional, present, widen
from edgeir.ops.windows import check_window, pad_spatial, static_counts, window_counts, window_view

_WINDOW = {
    "strides": Attribute(Kind.INTS),
    "padding": Attribute(Kind.INTS),
    "dilations": Attribute(Kind.INTS),
}


def _check(x: TensorType, w: TensorType, b: TensorType | None, groups: int) -> None:
    check_dtype("x", x, NUMERIC)
    check_same_dtype(x, w, b)
    check_rank("x", x, 3, 5)
    check_rank("w", w, x.rank, x.rank)
    if groups < 1:
        raise TypeInferenceError("groups is out of range", expected="at least 1", got=groups)


def _check_bias(b: TensorType | None, channels: Dim) -> None:
    if b is not None and b.shape != (channels,):
        raise TypeInferenceError("bias has the wrong shape", expected=f"[{channels}]", got=str(b))


def _check_groups(what: str, channels: Dim, groups: int) -> None:
    if isinstance(channels, int) and channels % groups:
        raise TypeInferenceError(f"groups do not divide {what}", expected=f"a multiple of {groups}", got=channels)


def _add_bias(y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    return y if b is None else y + widen(b).reshape(-1, *(1,) * (y.ndim - 2))


@register
class Conv(Op):
    """Cross-correlation: y[n, o, p] = b[o] + Σ x[n, c, p·strides + k·dilations − padding]·w[o, c, k].

    Operands: x (N, C, *S), w (O, C/groups, *K), b (O) or absent; one numeric dtype, which the result has too.
    `padding` holds all begins, then all ends. Result: (N, O, *windows).
    """

    name = "conv"
    operands = ("x", "w", "b?")
    attributes: ClassVar[Mapping[str, Attribute]] = _WINDOW | {"groups": Attribute(Kind.INT, 1)}
    pattern = Pattern.ANCHOR
    chooses_layout = True

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """(N, O, *windows) in x's dtype."""
        x, w, b = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        groups = attributes["groups"]
        _check(x, w, b, groups)
        if w.shape[1] * groups != x.shape[1]:
            raise TypeInferenceError(
                "channels of x and w do not fit",
                expected=f"x: {w.shape[1]}·{groups} channels for w: {w}",
                got=f"x: {x}",
            )
        _check_groups("the output channels", w.shape[0], groups)
        _check_bias(b, w.shape[0])
        counts = window_counts(x.shape[2:], w.shape[2:], *(attributes[key] for key in _WINDOW))
        return [TensorType(x.dtype, (x.shape[0], w.shape[0], *counts))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """Per group, the matrix of windows times the matrix of weights."""
        x, w, b = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        strides, padding, dilations = (attributes[key] for key in _WINDOW)
        groups, kernel, rank = attributes["groups"], w.shape[2:], x.ndim - 2
        counts = static_counts(window_counts(x.shape[2:], kernel, strides, padding, dilations))
        windows = window_view(pad_spatial(widen(x), padding, 0), counts, kernel, strides, dilations)
        weights = widen(w).reshape(groups, w.shape[0] // groups, math.prod(w.shape[1:]))
        y = np.empty((x.shape[0], w.shape[0], *counts), dtype=windows.dtype)
        depth, width = x.shape[1] // groups, w.shape[0] // groups
        # (N, C, *windows, *K) to (N, C, *K, *windows): one column a window.
        order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
        for group in range(groups):
            part = windows[:, group * depth : (group + 1) * depth].transpose(order)
            columns = part.reshape(x.shape[0], weights.shape[2], math.prod(counts))
            y[:, group * width : (group + 1) * width] = (weights[group] @ columns).reshape(x.shape[0], width, *counts)
        return [_add_bias(y, b).astype(x.dtype)]

    def macs(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Dim:
        """Output elements times weights per output channel; windows in the padding count in full."""
        return outputs[0].elements * product(present(inputs, 1).shape[1:])

    def check_layouts(
        self,
        inputs: Sequence[TensorType | None],
        outputs: Sequence[TensorType],
        layouts: Sequence[str],
        attributes: Mapping[str, Any],
    ) -> None:
        """x and the output are plain or blocked on their channels, w and b plain.

        Raises:
            EdgeIRError: another layout.
        """
        for name, layout in (("x", present(inputs, 0).layout), ("the output", layouts[0])):
            if layout and parse_layout(layout)[1] != 1:
                raise EdgeIRError(f"conv: {name} has a layout not supported", expected="plain or NCHW{b}c", got=layout)
        for name, type in (("w", present(inputs, 1)), ("b", optional(inputs, 2))):
            if type is not None and type.layout:
                raise EdgeIRError(f"conv: {name} must be plain", expected="a plain tensor", got=str(type))


@register
class ConvTranspose(Op):
    """Transposed convolution: y[n, o, p·strides + k·dilations − padding] += x[n, c, p]·w[c, o, k], plus b[o].

    Operands: x (N, C, *S), w (C, O/groups, *K), b (O) or absent. Each spatial size of the result is
    stride·(size − 1) + output_padding + dilation·(kernel − 1) + 1 − padding.
    """

    name = "conv_transpose"
    operands = ("x", "w", "b?")
    attributes: ClassVar[Mapping[str, Attribute]] = _WINDOW | {
        "output_padding": Attribute(Kind.INTS),
        "groups": Attribute(Kind.INT, 1),
    }
    pattern = Pattern.ANCHOR

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """(N, O, *sizes) in x's dtype."""
        x, w, b = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        groups, extra = attributes["groups"], attributes["output_padding"]
        strides, padding, dilations = (attributes[key] for key in _WINDOW)
        _check(x, w, b, groups)
        if w.shape[0] != x.shape[1]:
            raise TypeInferenceError("channels of x and w differ", expected=f"{x.shape[1]} for x: {x}", got=f"w: {w}")
        _check_groups("the input channels", x.shape[1], groups)
        channels = w.shape[1] * groups
        _check_bias(b, channels)
        rank = x.rank - 2
        check_window(rank, w.shape[2:], strides, padding, dilations)
        if len(extra) != rank or min(extra) < 0:
            raise TypeInferenceError(
                "output_padding is wrong", expected=f"{rank} integers of at least 0", got=list(extra)
            )
        sizes: list[Dim] = []
        for axis in range(rank):
            span = (x.shape[axis + 2] - 1) * strides[axis] + (w.shape[axis + 2] - 1) * dilations[axis] + 1
            size = span + (extra[axis] - padding[axis] - padding[axis + rank])
            if isinstance(size, int) and size < 0:
                raise TypeInferenceError("padding exceeds the result", expected=f"at most {span}", got=list(padding))
            sizes.append(size)
        return [TensorType(x.dtype, (x.shape[0], channels, *sizes))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """Adds, for every weight position, the products to a strided slice of the unpadded result; then crops."""
        x, w, b = present(inputs, 0), present(inputs, 1), optional(inputs, 2)
        strides, padding, dilations = (attributes[key] for key in _WINDOW)
        extra, groups, rank = attributes["output_padding"], attributes["groups"], x.ndim - 2
        kernel, sizes = w.shape[2:], x.shape[2:]
        full = [(sizes[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i in range(rank)]
        grouped = widen(x).reshape(x.shape[0], groups, x.shape[1] // groups, math.prod(sizes))
        weights = widen(w).reshape(groups, x.shape[1] // groups, w.shape[1], *kernel)
        y = np.zeros((x.shape[0], groups, w.shape[1], *full), dtype=grouped.dtype)
        for position in np.ndindex(*kernel):
            products = weights[(slice(None), slice(None), slice(None), *position)].swapaxes(1, 2) @ grouped
            place = tuple(
                slice(k * d, k * d + (size - 1) * s + 1, s)
                for k, d, s, size in zip(position, dilations, strides, sizes, strict=True)
            )
            y[(slice(None), slice(None), slice(None), *place)] += products.reshape(*y.shape[:3], *sizes)
        crop = tuple(slice(padding[i], full[i] - padding[i + rank]) for i in range(rank))
        y = y.reshape(x.shape[0], groups * w.shape[1], *full)[(slice(None), slice(None), *crop)]
        return [_add_bias(y, b).astype(x.dtype)]

    def macs(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Dim:
        """Input elements times weights per input channel."""
        return present(inputs, 0).elements * product(present(inputs, 1).shape[1:])
