"""Convolutions and matrix products of 8-bit and 4-bit integers, summed in 32 bits.

Where the weight and the left zero point are constants and the right zero point is 0, kernels compute *raw sums*
Σ x·w over an input whose border holds x_zero, and a constant −x_zero·Σw is added for each output channel
(`edgeir.lowering.integers`): the same integers modulo 2³² as Σ (x − x_zero)·w. Otherwise differences are multiplied.
"""

from __future__ import annotations

from typing import Any

from edgeir.lowering import te
from edgeir.lowering.compute.convolution import add_bias, convolution_sums
from edgeir.lowering.compute.expressions import Expression, constant, dtype_of
from edgeir.lowering.compute.matrix import product_sums
from edgeir.lowering.compute.registry import Call, compute
from edgeir.lowering.compute.windows import Channels


@compute("conv_integer")
def conv_integer(call: Call) -> te.Tensor:
    """y[n, o, p] = b[o] + Σ (x[n, i, p·stride + k·dilation − padding] − x_zero) · (w[o, i, k] − w_zero[o])."""
    return add_bias(call, conv_sums(call, raw=False), 2)


def conv_sums(call: Call, raw: bool) -> te.Tensor:
    """The sums without bias; of plain products if `raw`. The border of the input holds x_zero, the rest w's 0."""
    x, w = dtype_of(call.tensor(0)), dtype_of(call.tensor(1))

    def multiply(left: Expression, right: Expression, channel: Expression) -> Expression:
        left, right = left.astype("int32"), right.astype("int32")
        if not raw:
            left = left - zero_point(call, 3, x, ()).astype("int32")
            right = right - zero_point(call, 4, w, (channel,)).astype("int32")
        return left * right

    return convolution_sums(call, zero_point(call, 3, x, ()), multiply)


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
    a, b = dtype_of(call.tensor(0)), dtype_of(call.tensor(1))

    def multiply(left: Expression, right: Expression, column: Expression) -> Expression:
        left, right = left.astype("int32"), right.astype("int32")
        if not raw:
            left = left - zero_point(call, 2, a, ()).astype("int32")
            right = right - zero_point(call, 3, b, (column,)).astype("int32")
        return left * right

    return product_sums(call, multiply)


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
