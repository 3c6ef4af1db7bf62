"""Resampling: resize, grid_sample, roi_align."""

from __future__ import annotations

import math

from edgeir.export.element_types import carrier, element_code
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter
from edgeir.ir.dtype import FLOATS
from edgeir.ops.operands import integer_range


@exporter("resize")
def resize(node: ExportNode) -> str:
    """Resize, by scales where they give the sizes, else by sizes; interpolated integers in float64."""
    dtype, mode = node.type().dtype, node.attribute("mode")
    roi = node.attribute("roi")
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": node.attribute("coordinate_transformation"),
        "nearest_mode": node.attribute("nearest_mode") if mode == "nearest" else None,
        "cubic_coeff_a": node.attribute("cubic_coeff_a") if mode == "cubic" else None,
        "exclude_outside": int(node.attribute("exclude_outside")) or None,
        "extrapolation_value": node.attribute("extrapolation_value") or None,
        "antialias": int(node.attribute("antialias")) or None,
    }
    if node.attribute("coordinate_transformation") == "tf_crop_and_resize":
        rank = node.type().rank
        region = node.constant(roi if roi is not None else [0.0] * rank + [1.0] * rank, "float32")
    else:
        region = ""
    interpolated = mode != "nearest" and dtype not in FLOATS
    wide = "float64" if interpolated else dtype
    y = node.emit("Resize", node.cast(node.input(0), dtype, wide), region, *_extent(node), **attributes)
    if not interpolated:
        return y
    low, high = integer_range(dtype)
    y = node.emit("Clip", node.emit("Round", y), node.constant(low, wide), node.constant(high, wide))
    return node.emit("Cast", y, to=element_code(dtype))


def _extent(node: ExportNode) -> tuple[str, str]:
    """The operands scales and sizes, one of them absent."""
    sizes, scales = node.attribute("sizes"), node.attribute("scales")
    if scales is None:
        return "", node.dims(sizes)
    for dim, size, scale in zip(node.type().shape, sizes, scales, strict=True):
        if isinstance(dim, int) and isinstance(size, int) and math.floor(dim * scale) != size and dim * scale != size:
            if abs(size / dim - scale) < 1e-6 * scale:
                return "", node.dims(sizes)
            raise node.unsupported(f"scale {scale} of size {dim} gives another size than {size}")
    return node.constant(scales, "float32"), ""


@exporter("grid_sample")
def grid_sample(node: ExportNode) -> str:
    """GridSample."""
    dtype = node.output_type.dtype
    wide = carrier("GridSample", dtype)
    grid, grid_dtype = node.input(1), node.type(1).dtype
    y = node.emit(
        "GridSample",
        node.cast(node.input(0), dtype, wide),
        node.cast(grid, grid_dtype, carrier("GridSample", grid_dtype, 1)),
        mode=node.attribute("mode"),
        padding_mode=node.attribute("padding_mode"),
        align_corners=int(node.attribute("align_corners")),
    )
    return node.cast(y, wide, dtype)


@exporter("roi_align")
def roi_align(node: ExportNode) -> str:
    """RoiAlign."""
    mode = node.attribute("mode")
    indices = node.cast(node.input(2), node.type(2).dtype, "int64")
    return node.widened(
        "RoiAlign",
        [node.input(0), node.input(1), indices],
        [0, 1],
        output_height=node.attribute("height"),
        output_width=node.attribute("width"),
        mode="avg" if mode == "average" else "max",
        sampling_ratio=node.attribute("sampling_ratio"),
        spatial_scale=node.attribute("spatial_scale"),
        coordinate_transformation_mode="half_pixel" if node.attribute("half_pixel") else "output_half_pixel",
    )
