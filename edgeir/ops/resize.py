"""Resampling along axes, as ONNX's Resize defines it.

Axes are resampled one after the other; along one axis an output element is a weighted sum of a few input elements,
and `axis_taps` gives their indices and weights, which depend on sizes and attributes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.dtype import FLOATS, INTEGERS
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType, parse_layout
from edgeir.ops.operands import check_dtype, check_length, present, static_dims

Types = Sequence[TensorType | None]
Attributes = Mapping[str, Any]

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


@dataclass(frozen=True)
class Taps:
    """What the elements of one output axis read.

    Attributes:
        indices: int64 (output size, taps), each in [0, input size).
        weights: float64 (output size, taps).
        outside: bool (output size), elements that take the extrapolation value instead.
    """

    indices: np.ndarray
    weights: np.ndarray
    outside: np.ndarray


def source_coordinates(
    mode: str, size: int, out_size: int, scale: float, roi: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Where output elements lie on the input axis: float64 (out_size), in units of input elements.

    Formulas of `coordinate_transformation_mode` in the ONNX operator specification (Resize); the resized length is
    the real number scale · size, which `out_size` rounds.
    """
    y = np.arange(out_size, dtype=np.float64)
    length = scale * size
    match mode:
        case "half_pixel":
            return (y + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            return size / 2 * (1 - out_size / length) + (y + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (y + 0.5) / scale - 0.5 if length != 1 else np.full(out_size, -0.5)
        case "align_corners":
            return y * (size - 1) / (length - 1) if length != 1 else np.zeros(out_size)
        case "asymmetric":
            return y / scale
        case "tf_crop_and_resize":
            begin, end = roi
            if length == 1:
                return np.full(out_size, (begin + end) / 2 * (size - 1))
            return y * (end - begin) * (size - 1) / (length - 1) + begin * (size - 1)
    raise EdgeIRError("unknown coordinate transformation", expected=" | ".join(COORDINATES), got=mode)


def linear_kernel(distance: np.ndarray) -> np.ndarray:
    """The triangle 1 − |d| on [−1, 1]."""
    return np.maximum(1 - np.abs(distance), 0)


def cubic_kernel(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution with parameter `a` (Keys 1981, Cubic convolution interpolation, eq. 4), on [−2, 2]."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def axis_taps(size: int, out_size: int, scale: float, roi: tuple[float, float], attributes: Attributes) -> Taps:
    """The taps of one axis.

    Args:
        size: input size.
        out_size: output size.
        scale: resized length over input size.
        roi: the part of the axis that tf_crop_and_resize reads, (0, 1) for all.
        attributes: those of `resize`.
    """
    coordinates = attributes["coordinate_transformation"]
    x = source_coordinates(coordinates, size, out_size, scale, roi)
    outside = ((x < 0) | (x > size - 1)) & (coordinates == "tf_crop_and_resize")
    if attributes["mode"] == "nearest":
        indices = _nearest(x, attributes["nearest_mode"])[:, None]
        return Taps(np.clip(indices, 0, size - 1), np.ones((out_size, 1)), outside)
    # Antialiasing stretches the kernel over the input elements that one output element covers.
    stretch = min(scale, 1.0) if attributes["antialias"] else 1.0
    cubic = attributes["mode"] == "cubic"
    radius = ceil((2 if cubic else 1) / stretch)
    first = np.ceil(x).astype(np.int64) - radius
    indices = first[:, None] + np.arange(2 * radius)
    distance = (indices - x[:, None]) * stretch
    weights = cubic_kernel(distance, attributes["cubic_coeff_a"]) if cubic else linear_kernel(distance)
    if attributes["exclude_outside"]:
        weights = np.where((indices < 0) | (indices >= size), 0, weights)
    if attributes["antialias"] or attributes["exclude_outside"]:
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
    return Taps(np.clip(indices, 0, size - 1), weights, outside)


def _nearest(x: np.ndarray, mode: str) -> np.ndarray:
    match mode:
        case "round_prefer_floor":
            rounded = np.ceil(x - 0.5)
        case "round_prefer_ceil":
            rounded = np.floor(x + 0.5)
        case "floor":
            rounded = np.floor(x)
        case _:
            rounded = np.ceil(x)
    return rounded.astype(np.int64)


@register
class Resize(Op):
    """`x` resampled to `sizes`, along each axis by `scales` (None: sizes over input sizes).

    A scale may differ from the ratio of sizes, because sizes are whole. `roi` (all begins, then all ends, as
    fractions) is read in tf_crop_and_resize only; None means the whole of `x`. Integers are computed as float64,
    rounded half to even and saturated.
    """

    name = "resize"
    operands = ("x",)
    attributes: ClassVar = {
        "sizes": Attribute(Kind.DIMS),
        "scales": Attribute(Kind.FLOATS, None),
        "mode": Attribute(Kind.STR, "nearest", ("nearest", "linear", "cubic")),
        "coordinate_transformation": Attribute(Kind.STR, "half_pixel", COORDINATES),
        "nearest_mode": Attribute(
            Kind.STR, "round_prefer_floor", ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        ),
        "cubic_coeff_a": Attribute(Kind.FLOAT, -0.75),
        "exclude_outside": Attribute(Kind.BOOL, False),
        "extrapolation_value": Attribute(Kind.FLOAT, 0.0),
        "antialias": Attribute(Kind.BOOL, False),
        "roi": Attribute(Kind.FLOATS, None),
    }
    pattern = Pattern.ANCHOR

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` → `sizes`."""
        x, sizes, scales = present(inputs, 0), attributes["sizes"], attributes["scales"]
        check_dtype("x", x, (FLOATS | INTEGERS) - {"int4", "uint4"})
        check_length("sizes", sizes, x.rank)
        if attributes["roi"] is not None:
            check_length("roi", attributes["roi"], 2 * x.rank)
        if scales is not None:
            check_length("scales", scales, x.rank)
            if not all(0 < scale < float("inf") for scale in scales):
                raise TypeInferenceError("resize: unusable scales", expected="positive numbers", got=scales)
        for dim, size in zip(x.shape, sizes, strict=True):
            if isinstance(size, int) and (size < 0 or (dim == 0) != (size == 0)):
                raise TypeInferenceError("resize: unusable sizes", expected=f"positive sizes for {x}", got=sizes)
        if attributes["antialias"] and attributes["mode"] == "nearest":
            raise TypeInferenceError(
                "resize: antialiasing needs weights", expected="mode linear or cubic", got="mode nearest"
            )
        return [TensorType(x.dtype, sizes)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Attributes) -> list[np.ndarray]:
        """Axis by axis in float64."""
        x = present(inputs, 0)
        sizes = static_dims("sizes", attributes["sizes"])
        if not x.size:
            return [np.zeros(sizes, x.dtype)]
        nearest = attributes["mode"] == "nearest"
        y = x if nearest and not fills(attributes) else x.astype(np.float64)
        for axis, taps in resampled_axes(x.shape, sizes, attributes):
            if nearest:
                y = np.take(y, taps.indices[:, 0], axis=axis)
            else:
                weights = taps.weights.reshape(taps.weights.shape + (1,) * (x.ndim - axis - 1))
                y = (np.take(y, taps.indices, axis=axis) * weights).sum(axis=axis + 1)
            if taps.outside.any():
                outside = taps.outside.reshape(-1, *(1,) * (x.ndim - axis - 1))
                y = np.where(outside, attributes["extrapolation_value"], y)
        return [_saturate(y, x.dtype)]

    def layout(self, inputs: Types, outputs: Sequence[TensorType], attributes: Attributes) -> list[str]:
        """The layout of `x`, whose blocked axis must not change."""
        x = present(inputs, 0)
        if x.layout:
            _, axis, block = parse_layout(x.layout)
            roi = attributes["roi"]
            cropped = roi is not None and (roi[axis], roi[axis + x.rank]) != (0.0, 1.0)
            if block > 1 and (x.shape[axis] != attributes["sizes"][axis] or cropped):
                raise EdgeIRError("resize changes the blocked axis", expected=f"axis {axis} as in {x}", got=outputs[0])
        return [x.layout]


def fills(attributes: Attributes) -> bool:
    """Whether elements may take the extrapolation value."""
    return attributes["coordinate_transformation"] == "tf_crop_and_resize"


def resampled_axes(shape: Sequence[int], sizes: Sequence[int], attributes: Attributes) -> list[tuple[int, Taps]]:
    """The axes that a resize of `shape` to `sizes` changes, with their taps, in order."""
    rank = len(shape)
    scales = attributes["scales"] or tuple(out / size for size, out in zip(shape, sizes, strict=True))
    roi = (attributes["roi"] if fills(attributes) else None) or (0.0,) * rank + (1.0,) * rank
    result: list[tuple[int, Taps]] = []
    for axis, (size, out_size, scale) in enumerate(zip(shape, sizes, scales, strict=True)):
        part = (roi[axis], roi[axis + rank])
        if size != out_size or abs(scale - 1) > 1e-9 or part != (0.0, 1.0):
            result.append((axis, axis_taps(size, out_size, scale, part, attributes)))
    return result


def _saturate(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """float64 as `dtype`, integers rounded and saturated; arrays of `dtype` as they are."""
    if y.dtype == dtype:
        return y
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.round(y), limits.min, limits.max).astype(dtype)
    return y.astype(dtype)
