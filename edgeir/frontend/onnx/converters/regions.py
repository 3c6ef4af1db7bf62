"""Regions and deformed windows of images; images out of columns."""

from __future__ import annotations

import math

import numpy as np

from edgeir.frontend.onnx.converters.windows import read_window, spatial_list
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value


@converter("RoiAlign")
def roi_align(node: ImportNode) -> Value:
    """Regions of interest, pooled."""
    mode = node.attribute("coordinate_transformation_mode", "half_pixel" if node.opset >= 16 else "output_half_pixel")
    return node.emit(
        "roi_align",
        node.input(0),
        node.input(1),
        node.input(2),
        height=node.attribute("output_height", 1),
        width=node.attribute("output_width", 1),
        mode={"avg": "average"}.get(node.attribute("mode", "avg"), node.attribute("mode")),
        sampling_ratio=node.attribute("sampling_ratio", 0),
        spatial_scale=node.attribute("spatial_scale", 1.0),
        half_pixel=mode == "half_pixel",
    )


@converter("DeformConv")
def deform_conv(node: ImportNode) -> Value:
    """Convolution whose samples are moved by offsets."""
    x, w = node.input(0), node.input(1)
    if x.type.rank < 3 or w.type.rank != x.type.rank or not w.type.is_static:
        node.unsupported(f"weights {w.type} do not fit an input {x.type}")
    window = read_window(node, x.type.shape[2:], w.type.static_shape[2:])
    return node.emit(
        "deform_conv",
        x,
        w,
        node.input(2),
        node.optional(3),
        node.optional(4),
        strides=window.strides,
        padding=window.padding,
        dilations=window.dilations,
        groups=node.attribute("group", 1),
        offset_groups=node.attribute("offset_group", 1),
    )


@converter("Col2Im")
def col2im(node: ImportNode) -> Value:
    """Overlapping blocks added up: a transposed convolution with one-hot weights."""
    x, image, block = node.input(0), node.integers(1), node.integers(2)
    rank, elements = len(image), math.prod(block)
    batch, rows, columns = x.type.shape
    if len(block) != rank or not isinstance(rows, int) or rows % elements:
        node.unsupported(f"blocks {list(block)} do not fit {x.type}")
    strides = spatial_list(node, "strides", rank, 1)
    dilations = spatial_list(node, "dilations", rank, 1)
    pads = tuple(node.attribute("pads") or (0,) * 2 * rank)
    room = [image[i] + pads[i] + pads[i + rank] - (block[i] - 1) * dilations[i] - 1 for i in range(rank)]
    counts = [space // stride + 1 for space, stride in zip(room, strides, strict=True)]
    if math.prod(counts) != columns:
        node.unsupported(f"{columns} blocks do not cover an image {list(image)}")
    channels = rows // elements
    weights = np.tile(np.eye(elements).reshape(elements, 1, *block), (channels, 1, *(1,) * rank))
    return node.emit(
        "conv_transpose",
        node.reshape(x, (batch, rows, *counts)),
        node.constant_value(weights, x.type.dtype),
        strides=strides,
        padding=pads,
        dilations=dilations,
        output_padding=[space % stride for space, stride in zip(room, strides, strict=True)],
        groups=channels,
    )
