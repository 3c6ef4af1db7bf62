"""Deformable convolution: bilinear reads at computed positions."""

from __future__ import annotations

import itertools
from typing import Any

from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, cast, constant, maximum, minimum, select
from edgeir.lowering.compute.registry import Call, compute


def _clamped(position: Expression, size: int) -> Expression:
    return tirx.max(tirx.min(position, size - 1), 0)


@compute("deform_conv")
def deform_conv(call: Call) -> te.Tensor:
    """A 2-D convolution whose taps read bilinearly at offsets of their own, zero outside, times a mask."""
    x, w, offset = call.tensor(0), call.tensor(1), call.tensor(2)
    n, channels, *sizes = call.shape(0)
    out_channels, in_group, *kernel = call.shape(1)
    groups, offset_groups = int(call.attributes["groups"]), int(call.attributes["offset_groups"])
    strides, dilations = call.integers("strides"), call.integers("dilations")
    begins, dtype = call.integers("padding")[:2], call.dtype
    oh, ow = call.output_shape[2:]
    taps = kernel[0] * kernel[1]

    def position(axis: int) -> te.Tensor:
        """Where each tap reads along an axis, (n, offset group, tap, row, column)."""

        def body(b: Any, g: Any, t: Any, row: Any, column: Any) -> Expression:
            k = tirx.floordiv(t, kernel[1]) if axis == 0 else tirx.floormod(t, kernel[1])
            place = (row, column)[axis] * strides[axis] - begins[axis] + k * dilations[axis]
            return cast(place, dtype) + offset(b, (g * taps + t) * 2 + axis, row, column)

        return te.compute((n, offset_groups, taps, oh, ow), body, name=f"deform_position{axis}")

    positions = [position(axis) for axis in (0, 1)]
    sampled_group = channels // offset_groups
    mask = call.tensor(4) if call.has(4) else None

    def sample(b: Any, c: Any, t: Any, row: Any, column: Any) -> Expression:
        group = tirx.floordiv(c, sampled_group)
        at = [p(b, group, t, row, column) for p in positions]
        low = [tirx.floor(p) for p in at]
        total: Expression = constant(0, dtype)
        for corner in itertools.product((0, 1), repeat=2):
            weight: Expression = constant(1, dtype)
            inside, index = [], []
            for axis, size in enumerate(sizes):
                place = low[axis] + constant(corner[axis], dtype)
                fraction = at[axis] - low[axis]
                weight = weight * (fraction if corner[axis] else constant(1, dtype) - fraction)
                inside += [place >= constant(0, dtype), place < constant(size, dtype)]
                limited = minimum(constant(size, dtype), maximum(constant(-1, dtype), place))
                index.append(_clamped(limited.astype("int32"), size))
            total = total + select(tirx.all(*inside), x(b, c, *index) * weight, constant(0, dtype))
        return total if mask is None else total * mask(b, group * taps + t, row, column)

    samples = te.compute((n, channels, taps, oh, ow), sample, name="deform_samples")
    i, t = te.reduce_axis((0, in_group), name="i"), te.reduce_axis((0, taps), name="t")
    out_group = out_channels // groups

    def product(b: Any, o: Any, row: Any, column: Any) -> Expression:
        channel = tirx.floordiv(o, out_group) * in_group + i
        weight = w(o, i, tirx.floordiv(t, kernel[1]), tirx.floormod(t, kernel[1]))
        return te.sum(samples(b, channel, t, row, column) * weight, axis=[i, t])

    result = te.compute(call.output_shape, product, name="deform_conv")
    if not call.has(3):
        return result
    bias = call.tensor(3)
    return te.compute(call.output_shape, lambda b, o, r, c: result(b, o, r, c) + bias(o), name="bias")
