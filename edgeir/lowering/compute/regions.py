"""Pooling of regions of interest; how many samples a region takes may depend on data, so it is a loop nest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, cast, constant, maximum, select
from edgeir.lowering.compute.loops import loop_nest
from edgeir.lowering.compute.registry import Call, compute

# Positions in float64, as in the definition: the number of samples is a rounded quotient.
_WIDE = "float64"


def _wide(value: float) -> Expression:
    return constant(value, _WIDE)


@compute("roi_align")
def roi_align(call: Call) -> te.Tensor:
    """Regions cut into bins, each the mean or the maximum of bilinear samples."""
    images, channels, *sizes = call.shape(0)
    regions, _, *bins = call.output_shape
    if not math.prod(call.output_shape):
        return te.compute(call.output_shape, lambda *_: constant(0, call.dtype), name="roi_align")
    ratio, average = int(call.attributes["sampling_ratio"]), call.attributes["mode"] == "average"

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> None:
        x, rois, batch = ins
        y, result, starts, steps, counts = outs
        with T.serial(0, regions) as region:
            for axis in (0, 1):
                _region_axis(call, rois, region, axis, bins[axis], starts, steps)
                count = tirx.max(tirx.ceil(steps[axis]).astype("int32"), 0)
                counts[axis] = tirx.const(ratio, "int32") if ratio else count
            image = tirx.max(tirx.min(batch[region].astype("int32"), images - 1), 0)
            with T.serial(0, channels) as channel, T.serial(0, bins[0]) as row, T.serial(0, bins[1]) as column:
                result[0] = _wide(0 if average else -math.inf)
                with T.serial(0, counts[0]) as i, T.serial(0, counts[1]) as j:
                    neighbours = [
                        _neighbours(size, place, sample, starts[axis], steps[axis], counts[axis])
                        for axis, (size, place, sample) in enumerate(zip(sizes, (row, column), (i, j), strict=True))
                    ]
                    for (low, a), (high, b) in itertools.product(*neighbours):
                        value = (
                            cast(x[((image * channels + channel) * sizes[0] + low) * sizes[1] + high], _WIDE) * a * b
                        )
                        result[0] = result[0] + value if average else maximum(result[0], value)
                total = counts[0] * counts[1]
                divisor: Expression = tirx.max(total, 1)
                mean = result[0] / divisor.astype(_WIDE)
                sampled = select(total > 0, mean if average else result[0], _wide(0))
                y[((region * channels + channel) * bins[0] + row) * bins[1] + column] = cast(sampled, call.dtype)

    tensors = [call.tensor(i) for i in range(3)]
    dtypes = [call.dtype, _WIDE, _WIDE, _WIDE, "int32"]
    return loop_nest("roi_align", tensors, [call.output_shape, (1,), (2,), (2,), (2,)], dtypes, body)[0]


def _region_axis(call: Call, rois: Any, region: Expression, axis: int, bins: int, starts: Any, steps: Any) -> None:
    """Writes where a region begins along an axis of x, and the size of a bin."""
    scale = _wide(float(call.attributes["spatial_scale"]))
    shift = _wide(0.5 if call.attributes["half_pixel"] else 0.0)
    starts[axis] = cast(rois[region * 4 + 1 - axis], _WIDE) * scale - shift
    length = cast(rois[region * 4 + 3 - axis], _WIDE) * scale - shift - starts[axis]
    if not call.attributes["half_pixel"]:
        length = tirx.max(length, _wide(1))
    steps[axis] = length / _wide(bins)


def _neighbours(
    size: int, place: Expression, sample: Expression, start: Expression, step: Expression, count: Expression
) -> list[tuple[Expression, Expression]]:
    """The two elements next to a sample along one axis, and their weights."""
    samples: Expression = tirx.max(count, 1)
    offset = (sample.astype(_WIDE) + _wide(0.5)) / samples.astype(_WIDE)
    position = start + step * (place.astype(_WIDE) + offset)
    # Beyond one element outside the map a sample is zero; nearer, it takes the border.
    inside = tirx.all(position >= _wide(-1), position <= _wide(size))
    limited: Expression = tirx.max(_wide(0), tirx.min(_wide(size - 1), position))
    low: Expression = tirx.max(tirx.min(tirx.floor(limited).astype("int32"), size - 1), 0)
    fraction = limited - low.astype(_WIDE)
    return [
        (low, select(inside, _wide(1) - fraction, _wide(0))),
        (tirx.min(low + 1, size - 1), select(inside, fraction, _wide(0))),
    ]
