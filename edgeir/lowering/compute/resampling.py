"""Resize and grid_sample."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.arithmetic import integer_range
from edgeir.lowering.compute.casting import saturated
from edgeir.lowering.compute.expressions import (
    Expression,
    cast,
    constant,
    dtype_of,
    is_float,
    round_half_even,
    select,
)
from edgeir.lowering.compute.registry import Call, compute
from edgeir.ops.grid_sample import CUBIC_COEFFICIENT
from edgeir.ops.resize import Taps, resampled_axes


@compute("resize")
def resize(call: Call) -> te.Tensor:
    """One axis after the other: each element a weighted sum of the input elements that `axis_taps` names."""
    type = call.type(0)
    sizes = call.integers("sizes")
    shape = type.static_shape
    x, dtype = call.tensor(0), call.dtype
    if not math.prod(shape):
        return te.compute(call.output_shape, lambda *_: constant(0, dtype), name="resize")
    changed = resampled_axes(shape, sizes, call.attributes)
    nearest = call.attributes["mode"] == "nearest"
    exact = is_float(dtype) or nearest
    inner = dtype if exact else "float64"
    for axis, taps in changed:
        x = _resample(call, x, axis, taps, inner, nearest)
    if not changed:
        return te.compute(call.output_shape, lambda *i: x(*i), name="resize")
    if exact:
        return x
    low, high = integer_range(dtype)
    return te.compute(call.output_shape, lambda *i: saturated(round_half_even(x(*i)), low, high, dtype), name="resize")


def _resample(call: Call, x: te.Tensor, axis: int, taps: Taps, dtype: str, nearest: bool) -> te.Tensor:
    shape = [int(extent) for extent in x.shape]
    shape[axis] = taps.indices.shape[0]
    size = int(x.shape[axis])
    count = taps.indices.shape[1]
    places = [_positions(call, taps.indices[:, tap], size) for tap in range(count)]
    weights = None if nearest else call.tables.add(taps.weights.astype(dtype))
    outside = call.tables.add(taps.outside.astype(np.int8)) if taps.outside.any() else None
    fill = _extrapolation(call, dtype)

    def body(*index: Any) -> Expression:
        total: Expression = None
        for tap in range(count):
            position = list(index)
            position[axis] = places[tap](index[axis])
            value = cast(x(*position), dtype)
            if weights is not None:
                value = value * weights(index[axis], tirx.const(tap, "int32"))
            total = value if total is None else total + value
        return total if outside is None else select(outside(index[axis]) != 0, fill, total)

    return te.compute(shape, body, name=f"resize_axis{axis}")


def _extrapolation(call: Call, dtype: str) -> Expression:
    value = float(call.attributes["extrapolation_value"])
    if is_float(dtype):
        return constant(value, dtype)
    low, high = integer_range(dtype)
    return constant(min(max(round(value), low), high), dtype)


def _positions(call: Call, indices: np.ndarray, size: int) -> Any:
    """A function from output to input positions: a quotient where one fits, else a table."""
    outputs = np.arange(len(indices))
    for numerator, denominator in ((1, 1), (1, 2), (2, 1), (1, 4), (4, 1), (1, 3), (3, 1), (1, 8), (8, 1)):
        for offset in range(-denominator, denominator + 1):
            if np.array_equal(np.clip((outputs * numerator + offset) // denominator, 0, size - 1), indices):
                return _quotient(numerator, denominator, offset, len(indices), size)
    table = call.tables.add(indices.astype(np.int32))
    return lambda i: table(i)


def _quotient(numerator: int, denominator: int, offset: int, count: int, size: int) -> Any:
    def position(i: Expression) -> Expression:
        result = tirx.floordiv(i * numerator + offset, denominator)
        if offset < 0:
            result = tirx.max(result, 0)
        if ((count - 1) * numerator + offset) // denominator >= size:
            result = tirx.min(result, size - 1)
        return result

    return position


@compute("grid_sample")
def grid_sample(call: Call) -> te.Tensor:
    """y[n, c, *o] = x[n, c] interpolated at grid[n, *o], whose last axis counts axes from the last to the first."""
    x, grid = call.tensor(0), call.tensor(1)
    sizes = call.shape(0)[2:]
    dtype = call.dtype
    positions = "float64" if call.type(1).dtype == "float64" else "float32"
    weights = "float64" if dtype == "float64" else "float32"
    if not math.prod(call.shape(0)):
        return te.compute(call.output_shape, lambda *_: constant(0, dtype), name="grid_sample")
    spatial = call.shape(1)[:-1]
    # Positions do not depend on the channel: they are stages of their own.
    taps = []
    for axis, size in enumerate(sizes):
        channel = len(sizes) - 1 - axis

        def normalized(index: Any, channel: int = channel) -> Expression:
            return cast(grid(*index, tirx.const(channel, "int32")), positions)

        taps.append(_axis_taps(call, normalized, size, positions, weights, spatial, axis))

    def body(*index: Any) -> Expression:
        place = (index[0], *index[2:])
        total: Expression = constant(0, weights)
        for corner in itertools.product(*taps):
            weight: Expression = constant(1, weights)
            at, inside = [], []
            for (position, factor), size in zip(corner, sizes, strict=True):
                where = position(*place)
                if call.attributes["padding_mode"] == "zeros":
                    inside += [where >= 0, where < size]
                    where = tirx.max(tirx.min(where, size - 1), 0)
                at.append(where)
                weight = weight * factor(*place)
            value = cast(x(index[0], index[1], *at), weights)
            if inside:
                value = select(tirx.all(*inside), value, constant(0, weights))
            total = total + value * weight
        return cast(total, dtype)

    return te.compute(call.output_shape, body, name="grid_sample")


def _axis_taps(
    call: Call, normalized: Any, size: int, dtype: str, weights: str, shape: tuple[int, ...], axis: int
) -> list[tuple[te.Tensor, te.Tensor]]:
    """(int32 position, weight) tensors of each tap along one axis; positions outside are −1 or `size`."""
    mode, align = call.attributes["mode"], bool(call.attributes["align_corners"])

    def source(*index: Any) -> Expression:
        g = normalized(index)
        one, two = constant(1, dtype), constant(2, dtype)
        aligned = (g + one) / two * constant(size - 1, dtype)
        x = aligned if align else ((g + one) * constant(size, dtype) - one) / two
        if mode == "nearest":
            return _fold(call, round_half_even(x), size)
        return _fold(call, x, size) if mode == "linear" else x

    place = te.compute(shape, source, name=f"grid_position{axis}")
    if mode == "nearest":
        one = constant(1, weights)
        whole = te.compute(shape, lambda *i: _whole(_fold(call, tirx.trunc(place(*i)), size), size), name="grid_index")
        return [(whole, te.compute(shape, lambda *_: one, name="grid_weight"))]
    offsets = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    return [_tap(call, place, offset, size, weights) for offset in offsets]


def _tap(call: Call, place: te.Tensor, offset: int, size: int, weights: str) -> tuple[te.Tensor, te.Tensor]:
    """Position and weight of the element `offset` after the one before a sampling position."""
    dtype, mode = dtype_of(place), call.attributes["mode"]

    def position(*i: Any) -> Expression:
        return tirx.floor(place(*i)) + constant(offset, dtype)

    def index(*i: Any) -> Expression:
        return _whole(tirx.trunc(_fold(call, position(*i), size)), size)

    def weight(*i: Any) -> Expression:
        return _kernel(tirx.abs(cast(position(*i) - place(*i), weights)), mode, weights)

    return (
        te.compute(place.shape, index, name=f"grid_index{offset}"),
        te.compute(place.shape, weight, name=f"grid_weight{offset}"),
    )


def _whole(position: Expression, size: int) -> Expression:
    """A whole number as int32; everything outside the axis becomes −1 or `size`."""
    dtype = dtype_of(position)
    low, high = constant(-1, dtype), constant(size, dtype)
    # NaN fails both comparisons and lands outside, as the conversion of NaN does.
    inside = select(position > low, position, low)
    return select(inside < high, inside, high).astype("int32")


def _fold(call: Call, x: Expression, size: int) -> Expression:
    dtype = dtype_of(x)
    match call.attributes["padding_mode"]:
        case "border":
            top = constant(size - 1, dtype)
            zero = constant(0, dtype)
            return select(x < zero, zero, select(x > top, top, x))
        case "reflection":
            low, high = (0.0, size - 1.0) if call.attributes["align_corners"] else (-0.5, size - 0.5)
            return _reflect(x, low, high, dtype)
    return x


def _reflect(x: Expression, low: float, high: float, dtype: str) -> Expression:
    span = high - low
    bottom = constant(low, dtype)
    if span <= 0:
        return bottom
    period = constant(2 * span, dtype)
    shifted = x - bottom
    rest = shifted - tirx.floor(shifted / period) * period
    folded = bottom + select(rest < period - rest, rest, period - rest)
    return select(tirx.any(x < bottom, x > constant(high, dtype)), folded, x)


def _kernel(distance: Expression, mode: str, dtype: str) -> Expression:
    """The weight of a tap at a distance ≥ 0: the triangle, or Keys' cubic (see `cubic_kernel` of the operator)."""
    zero, one, two = (constant(v, dtype) for v in (0, 1, 2))
    if mode == "linear":
        return select(distance < one, one - distance, zero)
    a = CUBIC_COEFFICIENT
    c = [constant(v, dtype) for v in (a + 2, a + 3, a, 5 * a, 8 * a, 4 * a)]
    near = (c[0] * distance - c[1]) * distance * distance + one
    far = ((c[2] * distance - c[3]) * distance + c[4]) * distance - c[5]
    return select(distance <= one, near, select(distance < two, far, zero))
