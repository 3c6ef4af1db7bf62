"""Resampling of images."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Dim, Value
from edgeir.ir.dims import floor_divide


def _scaled_size(node: ImportNode, dim: Dim, scale: float) -> Dim:
    """⌊dim·scale⌋ of the float32 scale as it is, as ONNX infers it; onnxruntime may round 51.99 up to 52."""
    if isinstance(dim, int):
        return int(np.floor(dim * scale))
    # A scale in float32 stands for a simple fraction, if it is the nearest float to one.
    fraction = Fraction(scale).limit_denominator(256)
    if np.float32(fraction) != np.float32(scale):
        node.unsupported(f"scale {scale} of the symbolic size {dim}: fix it with shapes=…")
    return floor_divide(dim * fraction.numerator, fraction.denominator)


@converter("Upsample")
def upsample(node: ImportNode) -> Value:
    """Resize by scales, nearest or linear, asymmetric."""
    x = node.input(0)
    scales = [float(s) for s in (node.attribute("scales") if node.opset < 9 else node.constant(1).ravel())]
    if len(scales) != x.type.rank:
        node.unsupported(f"{len(scales)} scales for rank {x.type.rank}")
    return node.emit(
        "resize",
        x,
        sizes=[_scaled_size(node, dim, scale) for dim, scale in zip(x.type.shape, scales, strict=True)],
        scales=scales,
        mode=node.attribute("mode", "nearest").replace("bilinear", "linear"),
        coordinate_transformation="asymmetric",
        nearest_mode="floor",
    )


@converter("Resize")
def resize(node: ImportNode) -> Value:
    """x resampled, by scales or to sizes."""
    x = node.input(0)
    rank = x.type.rank
    mode = node.attribute("mode", "nearest")
    if node.opset < 11:
        scales = [float(s) for s in node.constant(1).ravel()]
        sizes = [_scaled_size(node, dim, scale) for dim, scale in zip(x.type.shape, scales, strict=True)]
        return node.emit(
            "resize",
            x,
            sizes=sizes,
            scales=scales,
            mode=mode,
            coordinate_transformation="asymmetric",
            nearest_mode="floor",
        )
    declared = node.attribute("axes")
    axes = list(range(rank)) if declared is None else [node.axis(axis, rank) for axis in declared]
    full_sizes: list[Dim] = list(x.type.shape)
    full_scales: list[float] | None = [1.0] * rank
    given = node.optional(2)
    if given is not None and given.type.elements != 0:
        for axis, scale in zip(axes, node.constant(2).ravel().tolist(), strict=True):
            full_scales[axis] = float(scale)
            full_sizes[axis] = _scaled_size(node, x.type.shape[axis], float(scale))
    else:
        wanted = node.dims(3)
        if len(wanted) != len(axes):
            node.unsupported(f"{len(wanted)} sizes for {len(axes)} axes")
        policy = node.attribute("keep_aspect_ratio_policy", "stretch")
        if policy == "stretch":
            for axis, size in zip(axes, wanted, strict=True):
                full_sizes[axis] = size
            full_scales = None
        else:
            shape, sizes = node.static_shape(0, policy), node.integers(3)
            ratios = [size / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
            scale = min(ratios) if policy == "not_larger" else max(ratios)
            for axis in axes:
                full_scales[axis] = scale
                # Rounded half up, as the standard says.
                full_sizes[axis] = int(np.floor(scale * shape[axis] + 0.5))
    coordinates = node.attribute("coordinate_transformation_mode", "half_pixel")
    roi = None
    if coordinates == "tf_crop_and_resize":
        box = [float(item) for item in node.constant(1).ravel()]
        roi = [0.0] * rank + [1.0] * rank
        for index, axis in enumerate(axes):
            roi[axis], roi[axis + rank] = box[index], box[index + len(axes)]
    return node.emit(
        "resize",
        x,
        sizes=full_sizes,
        scales=full_scales,
        mode=mode,
        coordinate_transformation=coordinates,
        nearest_mode=node.attribute("nearest_mode", "round_prefer_floor"),
        cubic_coeff_a=node.attribute("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.attribute("exclude_outside", 0)),
        extrapolation_value=node.attribute("extrapolation_value", 0.0),
        antialias=bool(node.attribute("antialias", 0)),
        roi=roi,
    )


@converter("GridSample")
def grid_sample(node: ImportNode) -> Value:
    """x read at the positions of a grid."""
    mode = node.attribute("mode", "linear" if node.opset >= 20 else "bilinear")
    return node.emit(
        "grid_sample",
        node.input(0),
        node.input(1),
        mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode),
        padding_mode=node.attribute("padding_mode", "zeros"),
        align_corners=bool(node.attribute("align_corners", 0)),
    )
