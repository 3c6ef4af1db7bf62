"""Convolutions by their definition, for plain and blocked activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, constant
from edgeir.lowering.compute.registry import Call, compute, fixed
from edgeir.lowering.compute.windows import Channels, pad_spatial, reach_beyond


@compute("conv")
def conv(call: Call) -> te.Tensor:
    """y[n, o, p] = Σ x[n, i, p·stride + k·dilation − padding] · w[o, i, k] (+ b[o])."""
    sums = convolution_sums(call, constant(0, call.dtype), lambda x, w, _: x * w)
    return add_bias(call, sums, 2)


Product = Callable[[Expression, Expression, Expression], Expression]
"""Multiplies an element of the input by one of the weight, given the output channel."""


def convolution_sums(call: Call, border: Expression, multiply: Product) -> te.Tensor:
    """A convolution without bias, named after its operator.

    Args:
        call: the operator.
        border: the element beyond the input's edges.
        multiply: gives products of the result's dtype.
    """
    x, w = call.tensor(0), call.tensor(1)
    source, target = Channels.of(call.type(0)), Channels.of(call.outputs[0])
    rank, groups, dtype = source.rank, int(call.attributes["groups"]), call.dtype
    strides, dilations = call.integers("strides"), call.integers("dilations")
    begins = call.integers("padding")[:rank]
    weight = call.shape(1)
    in_group, out_group, kernel = weight[1], weight[0] // groups, weight[2:]
    sizes = call.shape(0)[2 : 2 + rank]
    counts = call.output_shape[2 : 2 + rank]
    ends = reach_beyond(sizes, counts, kernel, strides, begins, dilations)
    padded = pad_spatial(x, begins, ends, border, "conv_pad")
    i = te.reduce_axis((0, in_group), name="i")
    ks = [te.reduce_axis((0, extent), name=f"k{axis}") for axis, extent in enumerate(kernel)]

    def body(*index: Any) -> Expression:
        o = target.channel(index)
        real = tirx.min(o, weight[0] - 1) if target.has_lanes_beyond else o
        group = tirx.floordiv(real, out_group) * in_group if groups > 1 else 0
        at = [p * s + k * d for p, s, k, d in zip(target.spatial(index), strides, ks, dilations, strict=True)]
        product = multiply(source.at(padded, index[0], group + i, at), w(real, i, *ks), real)
        if target.has_lanes_beyond:
            product = tirx.if_then_else(o < weight[0], product, constant(0, dtype))
        return te.sum(product, axis=[i, *ks])

    return te.compute(call.output_shape, body, name=call.op)


def add_bias(call: Call, result: te.Tensor, operand: int) -> te.Tensor:
    """The result plus a bias for each channel, as a stage of its own; the result itself where there is no bias."""
    if not call.has(operand):
        return result
    bias, target = call.tensor(operand), Channels.of(call.outputs[0])
    length = fixed(int(bias.shape[0]), "bias")

    def body(*index: Any) -> Expression:
        channel = target.channel(index)
        # A bias that was padded to whole blocks needs no bound.
        if target.has_lanes_beyond and length == target.count:
            channel = tirx.min(channel, length - 1)
        return result(*index) + bias(channel)

    return te.compute(call.output_shape, body, name="bias")


@compute("conv_transpose")
def conv_transpose(call: Call) -> te.Tensor:
    """The adjoint of conv: y[n, o, p] = Σ x[n, i, q] · w[i, o, k] over p = q·stride + k·dilation − padding."""
    x, w = call.tensor(0), call.tensor(1)
    _, channels, *sizes = call.shape(0)
    rank, groups, dtype = len(sizes), int(call.attributes["groups"]), call.dtype
    strides, dilations = call.integers("strides"), call.integers("dilations")
    begins = call.integers("padding")[:rank]
    weight = call.shape(1)
    in_group, out_group, kernel = channels // groups, weight[1], weight[2:]
    i = te.reduce_axis((0, in_group), name="i")
    ks = [te.reduce_axis((0, extent), name=f"k{axis}") for axis, extent in enumerate(kernel)]

    def body(*index: Any) -> Expression:
        o = index[1]
        group = tirx.floordiv(o, out_group)
        at, inside = [], []
        for axis in range(rank):
            shifted = index[2 + axis] + begins[axis] - ks[axis] * dilations[axis]
            position = tirx.floordiv(shifted, strides[axis]) if strides[axis] > 1 else shifted
            if strides[axis] > 1:
                inside.append(tirx.floormod(shifted, strides[axis]) == 0)
            inside += [position >= 0, position < sizes[axis]]
            at.append(position)
        channel = group * in_group + i
        product = x(index[0], channel, *at) * w(channel, tirx.floormod(o, out_group), *ks)
        return te.sum(tirx.if_then_else(tirx.all(*inside), product, constant(0, dtype)), axis=[i, *ks])

    result = te.compute(call.output_shape, body, name="conv_transpose")
    return add_bias(call, result, 2)
