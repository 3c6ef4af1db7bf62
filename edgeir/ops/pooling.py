"""Maximum and average over sliding windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType, parse_layout
from edgeir.ops.operands import ARITHMETIC_FLOATS, NUMERIC, check_dtype, check_rank, lowest, present, widen
from edgeir.ops.windows import overhang, pad_spatial, static_counts, window_counts, window_view

_WINDOW = ("kernel", "strides", "padding", "dilations")


class Pool(Op):
    """What the pools share: x (N, C, *S) with 1 to 3 spatial axes, result (N, C, *windows), x's layout kept."""

    operands = ("x",)
    attributes: ClassVar[Mapping[str, Attribute]] = {name: Attribute(Kind.INTS) for name in _WINDOW} | {
        "ceil_mode": Attribute(Kind.BOOL, False)
    }
    pattern = Pattern.ANCHOR
    dtypes: ClassVar[frozenset[str]] = NUMERIC

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """(N, C, *windows) in x's dtype."""
        x = present(inputs, 0)
        check_dtype("x", x, self.dtypes)
        check_rank("x", x, 3, 5)
        kernel, strides, padding, dilations = (attributes[name] for name in _WINDOW)
        counts = window_counts(x.shape[2:], kernel, strides, padding, dilations, attributes["ceil_mode"])
        return [TensorType(x.dtype, (*x.shape[:2], *counts))]

    def layout(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Sequence[str]:
        """That of x, which may be blocked on its channels."""
        layout = present(inputs, 0).layout
        if layout and parse_layout(layout)[1] != 1:
            raise EdgeIRError(f"{self.name}: layout not supported", expected="plain or NCHW{b}c", got=layout)
        return [layout]


def _windows(x: np.ndarray, fill: object, attributes: Mapping[str, Any]) -> np.ndarray:
    """The windows of x, padded with `fill`, with the elements of a window along one last axis."""
    kernel, strides, padding, dilations = (attributes[name] for name in _WINDOW)
    sizes = x.shape[2:]
    counts = static_counts(window_counts(sizes, kernel, strides, padding, dilations, attributes["ceil_mode"]))
    beyond = overhang(sizes, counts, kernel, strides, padding, dilations)
    view = window_view(pad_spatial(x, padding, fill, beyond), counts, kernel, strides, dilations)
    return view.reshape(*view.shape[: x.ndim], math.prod(kernel))


@register
class MaxPool(Pool):
    """The greatest element of each window; padding does not take part. NaN wins."""

    name = "max_pool"

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """Pads with the least value of the dtype."""
        x = present(inputs, 0)
        return [_windows(widen(x), lowest(widen(x).dtype), attributes).max(axis=-1).astype(x.dtype)]


@register
class AveragePool(Pool):
    """The mean of each window: of its elements in x, or with `count_include_pad` of those in x and its padding."""

    name = "average_pool"
    attributes: ClassVar[Mapping[str, Attribute]] = {
        **Pool.attributes,
        "count_include_pad": Attribute(Kind.BOOL, False),
    }
    dtypes = ARITHMETIC_FLOATS

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The sum over each window, divided by the count of elements that take part."""
        x = present(inputs, 0)
        total = _windows(widen(x), 0, attributes).sum(axis=-1)
        ones = np.ones((1, 1, *x.shape[2:]), dtype=total.dtype)
        if attributes["count_include_pad"]:
            # What a last window in ceil mode takes from beyond the padding still does not count.
            padded = pad_spatial(ones, attributes["padding"], 1)
            rank = x.ndim - 2
            counts = total.shape[2:]
            window = [attributes[name] for name in ("kernel", "strides", "dilations")]
            beyond = overhang(padded.shape[2:], counts, window[0], window[1], (0,) * 2 * rank, window[2])
            view = window_view(pad_spatial(padded, (0,) * 2 * rank, 0, beyond), counts, *window)
            count = view.reshape(*view.shape[: x.ndim], -1).sum(axis=-1)
        else:
            count = _windows(ones, 0, attributes).sum(axis=-1)
        return [(total / count).astype(x.dtype)]
