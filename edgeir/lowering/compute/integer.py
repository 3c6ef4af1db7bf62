"""Convolutions and matrix products of 8-bit and 4-bit integers, summed in 32 bits.

Where the weight and the left zero point are constants and the right zero point is 0, kernels compute *raw sums*
Σ x·w over an input whose border holds x_zero, and a constant −x_zero·Σw is added for each output channel
(`edgeir.lowering.integers`): the same integers modulo 2³² as Σ (x − x_zero)·w. Otherwise differences are multiplied.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.convolution import add_bias
from edgeir.lowering.compute.expressions import Expression, constant, dtype_of
from edgeir.lowering.compute.registry import Call, compute
from edgeir.lowering.compute.windows import Channels, pad_spatial, reach_beyond


@compute("conv_integer")
def conv_integer(call: Call) -> te.Tensor:
    """y[n, o, p] = b[o] + Σ (x[n, i, p·stride + k·dilation − padding] − x_zero) · (w[o, i, k] − w_zero[o])."""
    return add_bias(call, conv_sums(call, raw=False), 2)


def conv_sums(call: Call, raw: bool) -> te.Tensor:
    """The sums without bias; of plain products if `raw`. The border of the input holds x_zero, the rest w's 0."""
    x, w = call.tensor(0), call.tensor(1)
    source, target = Channels.of(call.type(0)), Channels.of(call.outputs[0])
    rank, groups = source.rank, int(call.attributes["groups"])
    strides, dilations = call.integers("strides"), call.integers("dilations")
    begins = call.integers("padding")[:rank]
    weight = call.shape(1)
    in_group, out_group, kernel = weight[1], weight[0] // groups, weight[2:]
    sizes = call.shape(0)[2 : 2 + rank]
    counts = call.output_shape[2 : 2 + rank]
    ends = reach_beyond(sizes, counts, kernel, strides, begins, dilations)
    padded = pad_spatial(x, begins, ends, zero_point(call, 3, dtype_of(x), ()), "conv_pad")
    i = te.reduce_axis((0, in_group), name="i")
    ks = [te.reduce_axis((0, extent), name=f"k{axis}") for axis, extent in enumerate(kernel)]

    def body(*index: Any) -> Expression:
        o = target.channel(index)
        real = tirx.min(o, weight[0] - 1) if target.has_lanes_beyond else o
        group = tirx.floordiv(real, out_group) * in_group if groups > 1 else 0
        at = [p * s + k * d for p, s, k, d in zip(target.spatial(index), strides, ks, dilations, strict=True)]
        left = source.at(padded, index[0], group + i, at).astype("int32")
        right = w(real, i, *ks).astype("int32")
        if not raw:
            left = left - zero_point(call, 3, dtype_of(x), ()).astype("int32")
            right = right - zero_point(call, 4, dtype_of(w), (real,)).astype("int32")
        product = left * right
        if target.has_lanes_beyond:
            product = tirx.if_then_else(o < weight[0], product, constant(0, "int32"))
        return te.sum(product, axis=[i, *ks])

    return te.compute(call.output_shape, body, name="conv_integer")


def zero_point(call: Call, operand: int, dtype: str, channel: tuple[Any, ...]) -> Expression:
    """The zero point in an operand: absent (0), a scalar, or one of a vector at `channel`."""
    if not call.has(operand):
        return constant(0, dtype)
    scalar = call.scalars[operand]
    if scalar is not None:
        return constant(int(scalar.reshape(()).item()), dtype)
    return call.tensor(operand)(*(channel if call.type(operand).rank else ()))


@compute("matmul_integer")
def matmul_integer(call: Call) -> te.Tensor:
    """Σ (a[m, k] − a_zero) · (b[k, n] − b_zero[n]) over the last two axes; leading axes broadcast."""
    return matmul_sums(call, raw=False)


def matmul_sums(call: Call, raw: bool) -> te.Tensor:
    """The sums; of plain products if `raw`."""
    a, b = call.tensor(0), call.tensor(1)
    shape_a, shape_b, out = call.shape(0), call.shape(1), call.output_shape
    transpose_a, transpose_b = bool(call.attributes["transpose_a"]), bool(call.attributes["transpose_b"])
    depth = shape_a[-2] if transpose_a else shape_a[-1]
    if depth == 0:
        return te.compute(out, lambda *_: constant(0, "int32"), name="matmul_integer")
    k = te.reduce_axis((0, depth), name="k")

    def batch(index: Any, shape: tuple[int, ...]) -> list[Any]:
        tail = index[len(out) - len(shape) : len(out) - 2]
        return [0 if extent == 1 else i for i, extent in zip(tail, shape[:-2], strict=True)]

    def body(*index: Any) -> Expression:
        row, column = index[-2], index[-1]
        left = a(*batch(index, shape_a), *((k, row) if transpose_a else (row, k))).astype("int32")
        right = b(*batch(index, shape_b), *((column, k) if transpose_b else (k, column))).astype("int32")
        if not raw:
            left = left - zero_point(call, 2, dtype_of(a), ()).astype("int32")
            right = right - zero_point(call, 3, dtype_of(b), (column,)).astype("int32")
        return te.sum(left * right, axis=k)

    return te.compute(out, body, name="matmul_integer")


def add_offset(call: Call, sums: te.Tensor, offset: te.Tensor, dynamic: bool = False) -> te.Tensor:
    """Raw sums plus the constants that make them sums of differences, as a stage of its own.

    Args:
        call: the operator.
        sums: the raw sums.
        offset: for a convolution one constant per output channel (padded to whole blocks), else a tensor that
            broadcasts against the sums.
        dynamic: whether the offset of a product is multiplied by its left zero point, an operand.
    """
    if call.op == "conv_integer":
        target = Channels.of(call.outputs[0])
        return te.compute(call.output_shape, lambda *i: sums(*i) + offset(target.channel(i)), name="offset")
    shape = [int(extent) for extent in offset.shape]

    def body(*index: Any) -> Expression:
        tail = index[len(index) - len(shape) :]
        term = offset(*[0 if extent == 1 else i for i, extent in zip(tail, shape, strict=True)])
        if dynamic:
            term = term * zero_point(call, 2, dtype_of(call.tensor(0)), ()).astype("int32")
        return sums(*index) + term

    return te.compute(call.output_shape, body, name="offset")
