"""Deformable convolution, as ONNX's DeformConv defines it (Dai et al. 2017; with a mask, Zhu et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim, floor_divide, product
from edgeir.ir.dtype import FLOATS
from edgeir.ir.op import Attribute, Kind, Op, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import check_dtype, check_length, check_rank, check_same_dtype, check_shape, optional, present

Attributes = Mapping[str, Any]


@register
class DeformConv(Op):
    """A 2-D convolution whose every tap reads `x` bilinearly at an offset of its own, zero outside, times `mask`.

    Operands: x (N, C, H, W); w (O, C / groups, kh, kw); offset (N, offset_groups·kh·kw·2, oh, ow), of rows, columns in
    turn; b (O); mask (N, offset_groups·kh·kw, oh, ow).
    """

    name = "deform_conv"
    operands = ("x", "w", "offset", "b?", "mask?")
    attributes: ClassVar = {
        "strides": Attribute(Kind.INTS),
        "padding": Attribute(Kind.INTS),
        "dilations": Attribute(Kind.INTS),
        "groups": Attribute(Kind.INT, 1),
        "offset_groups": Attribute(Kind.INT, 1),
    }

    def infer(self, inputs: Sequence[TensorType | None], attributes: Attributes) -> list[TensorType]:
        """The shapes above → (N, O, oh, ow)."""
        x, w, offset = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        b, mask = optional(inputs, 3), optional(inputs, 4)
        for name, t in (("x", x), ("w", w)):
            check_rank(name, t, 4, 4)
        check_dtype("x", x, FLOATS)
        check_same_dtype(*[t for t in inputs if t is not None])
        for name, length in (("strides", 2), ("padding", 4), ("dilations", 2)):
            check_length(name, attributes[name], length)
        groups, offset_groups = attributes["groups"], attributes["offset_groups"]
        channels, out_channels = x.shape[1], w.shape[0]
        divisible = groups > 0 and offset_groups > 0
        for dim, divisor in ((channels, groups), (out_channels, groups), (channels, offset_groups)):
            divisible = divisible and (not isinstance(dim, int) or dim % divisor == 0)
        if not divisible or min(attributes["strides"] + attributes["dilations"]) < 1 or min(attributes["padding"]) < 0:
            raise TypeInferenceError(
                "deform_conv: unusable attributes", expected=f"groups that divide {x}, {w}", got=attributes
            )
        check_shape("w", w, (out_channels, floor_divide(channels, groups), *w.shape[2:]))
        spatial: list[Dim] = []
        for axis in (0, 1):
            reach = (w.shape[2 + axis] - 1) * attributes["dilations"][axis] + 1
            free = x.shape[2 + axis] + attributes["padding"][axis] + attributes["padding"][2 + axis] - reach
            if isinstance(free, int) and free < 0:
                raise TypeInferenceError(
                    "deform_conv: the kernel is larger than its input", expected=f"at most {x}", got=w
                )
            spatial.append(floor_divide(free, attributes["strides"][axis]) + 1)
        taps = product(w.shape[2:]) * offset_groups
        check_shape("offset", offset, (x.shape[0], taps * 2, *spatial))
        if b is not None:
            check_shape("b", b, (out_channels,))
        if mask is not None:
            check_shape("mask", mask, (x.shape[0], taps, *spatial))
        return [TensorType(x.dtype, (x.shape[0], out_channels, *spatial))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Attributes) -> list[np.ndarray]:
        """Sampled patches (N, C, kh·kw, oh, ow), then a grouped product with the weights, in float64."""
        x, w, offset = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        b, mask = optional(inputs, 3), optional(inputs, 4)
        n, channels, height, width = x.shape
        out_channels, _, kh, kw = w.shape
        oh, ow = offset.shape[2:]
        groups, offset_groups = attributes["groups"], attributes["offset_groups"]
        offsets = offset.astype(np.float64).reshape(n, offset_groups, kh * kw, 2, oh, ow)
        tap = [axis.reshape(-1, 1, 1) for axis in np.indices((kh, kw))]
        place = np.indices((oh, ow), sparse=True)
        position = [
            place[axis] * attributes["strides"][axis]
            - attributes["padding"][axis]
            + tap[axis] * attributes["dilations"][axis]
            + offsets[:, :, :, axis]
            for axis in (0, 1)
        ]
        # Channels of one offset group share positions: (N, groups, channels of a group, taps, oh, ow).
        grouped = x.astype(np.float64).reshape(n, offset_groups, channels // offset_groups, height, width)
        grouped = np.moveaxis(grouped, 2, -1)
        batch, group = (axis[..., None, None, None] for axis in np.indices((n, offset_groups), sparse=True))
        patches = np.zeros((n, offset_groups, kh * kw, oh, ow, channels // offset_groups))
        low = [np.floor(p).astype(np.int64) for p in position]
        for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = np.ones(position[0].shape)
            index = []
            for axis, size in enumerate((height, width)):
                at = low[axis] + corner[axis]
                weight = weight * np.where((at >= 0) & (at < size), 1 - np.abs(position[axis] - at), 0)
                index.append(np.clip(at, 0, size - 1))
            patches += grouped[batch, group, index[0], index[1]] * weight[..., None]
        if mask is not None:
            patches = patches * mask.astype(np.float64).reshape(n, offset_groups, kh * kw, oh, ow, 1)
        columns = np.moveaxis(patches, -1, 2).reshape(n, groups, -1, oh * ow)
        rows = w.astype(np.float64).reshape(groups, out_channels // groups, -1)
        y = np.matmul(rows, columns).reshape(n, out_channels, oh, ow)
        if b is not None:
            y = y + b.astype(np.float64).reshape(-1, 1, 1)
        return [y.astype(x.dtype)]

    def macs(self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Attributes) -> Dim:
        """Output elements times weights per output channel (the interpolation aside)."""
        return outputs[0].elements * product(present(inputs, 1).shape[1:])
