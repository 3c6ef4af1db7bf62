"""Normalizations: softmax, layer and batch normalization."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.elementwise import read
from edgeir.lowering.compute.expressions import Expression, constant
from edgeir.lowering.compute.registry import Call, compute
from edgeir.lowering.compute.windows import Channels


def _shifted(call: Call) -> tuple[te.Tensor, te.Tensor, Any]:
    """The input, its maximum along the axis, and a function that drops the axis from an index."""
    x, shape, axis = call.tensor(0), call.output_shape, int(call.attributes["axis"])
    k = te.reduce_axis((0, shape[axis]), name="k")

    def drop(index: Any) -> list[Any]:
        return [*index[:axis], *index[axis + 1 :]]

    def along(index: Any, position: Any) -> list[Any]:
        return [*index[:axis], position, *index[axis:]]

    # NaN needs no care here: the exponential of NaN makes the sum NaN.
    greatest = te.compute(drop(shape), lambda *i: te.max(x(*along(i, k)), axis=k), name=f"{call.op}_max")
    return x, greatest, drop


def _sum_of_exponentials(call: Call, exponentials: te.Tensor) -> te.Tensor:
    shape, axis = call.output_shape, int(call.attributes["axis"])
    k = te.reduce_axis((0, shape[axis]), name="k")
    reduced = [*shape[:axis], *shape[axis + 1 :]]
    return te.compute(reduced, lambda *i: te.sum(exponentials(*i[:axis], k, *i[axis:]), axis=k), name=f"{call.op}_sum")


@compute("softmax")
def softmax(call: Call) -> te.Tensor:
    """exp(x − max) / Σ exp(x − max) along the axis."""
    if not math.prod(call.output_shape):
        return te.compute(call.output_shape, lambda *_: constant(0, call.dtype), name="softmax")
    x, greatest, drop = _shifted(call)
    exponentials = te.compute(call.output_shape, lambda *i: tirx.exp(x(*i) - greatest(*drop(i))), name="softmax_exp")
    total = _sum_of_exponentials(call, exponentials)
    return te.compute(call.output_shape, lambda *i: exponentials(*i) / total(*drop(i)), name="softmax")


@compute("log_softmax")
def log_softmax(call: Call) -> te.Tensor:
    """x − max − log Σ exp(x − max) along the axis."""
    if not math.prod(call.output_shape):
        return te.compute(call.output_shape, lambda *_: constant(0, call.dtype), name="log_softmax")
    x, greatest, drop = _shifted(call)
    shifted = te.compute(call.output_shape, lambda *i: x(*i) - greatest(*drop(i)), name="log_softmax_shift")
    exponentials = te.compute(call.output_shape, lambda *i: tirx.exp(shifted(*i)), name="log_softmax_exp")
    total = _sum_of_exponentials(call, exponentials)
    return te.compute(call.output_shape, lambda *i: shifted(*i) - tirx.log(total(*drop(i))), name="log_softmax")


@compute("batch_norm")
def batch_norm(call: Call) -> te.Tensor:
    """(x − mean) / √(variance + epsilon) · scale + bias, per channel (axis 1)."""
    x, channels = call.tensor(0), Channels.of(call.outputs[0])
    parameters = [call.tensor(i) for i in range(1, 5)]
    epsilon = constant(call.attributes["epsilon"], call.dtype)

    def body(*index: Any) -> Expression:
        channel = channels.channel(index)
        if channels.has_lanes_beyond:
            channel = tirx.min(channel, channels.count - 1)
        scale, bias, mean, variance = (p(channel).astype(call.dtype) for p in parameters)
        return (x(*index) - mean) / tirx.sqrt(variance + epsilon) * scale + bias

    return te.compute(call.output_shape, body, name="batch_norm")


@compute("layer_norm")
def layer_norm(call: Call) -> te.Tensor:
    """(x − mean) / √(variance + epsilon) · scale + bias over the axes from `axis` on."""
    x, shape, axis = call.tensor(0), call.output_shape, int(call.attributes["axis"])
    outer, inner = shape[:axis], shape[axis:]
    count = math.prod(inner)
    if not math.prod(shape):
        return te.compute(shape, lambda *_: constant(0, call.dtype), name="layer_norm")
    portion = constant(1.0 / count, call.dtype)

    def axes() -> list[Any]:
        return [te.reduce_axis((0, extent), name=f"k{i}") for i, extent in enumerate(inner)]

    ks = axes()
    total = te.compute(outer, lambda *i: te.sum(x(*i, *ks), axis=ks), name="layer_norm_sum")
    centred = te.compute(shape, lambda *i: x(*i) - total(*i[:axis]) * portion, name="layer_norm_centre")
    js = axes()
    squares = te.compute(
        outer, lambda *i: te.sum(centred(*i, *js) * centred(*i, *js), axis=js), name="layer_norm_squares"
    )
    epsilon = constant(call.attributes["epsilon"], call.dtype)
    factor = te.compute(
        outer,
        lambda *i: constant(1, call.dtype) / tirx.sqrt(squares(*i) * portion + epsilon),
        name="layer_norm_factor",
    )

    def body(*index: Any) -> Expression:
        value = centred(*index) * factor(*index[:axis])
        value = value * read(call.tensor(1), call.type(1), index, call.outputs[0]).astype(call.dtype)
        if call.has(2):
            value = value + read(call.tensor(2), call.type(2), index, call.outputs[0]).astype(call.dtype)
        return value

    return te.compute(shape, body, name="layer_norm")
