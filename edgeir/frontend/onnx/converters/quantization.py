"""Quantized operators: QuantizeLinear and DequantizeLinear, and products and convolutions of integers."""

from __future__ import annotations

import numpy as np

from edgeir.frontend.onnx.converters.convolution import convolve_integers
from edgeir.frontend.onnx.converters.matrices import multiply_integers
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.protos import element_type
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ir.dims import ceil_divide


def _parameter(node: ImportNode, value: Value, x: Value) -> Value:
    """A scale or zero point, per tensor, per axis or per block, in a form that broadcasts against x."""
    if value.type.elements == 1 and not node.attribute("block_size", 0):
        return node.reshape(value, ())
    rank = x.type.rank
    axis = node.axis(node.attribute("axis", 1), rank)
    block = node.attribute("block_size", 0)
    if not block:
        if value.type.rank != 1:
            node.unsupported(f"a scale or zero point of type {value.type}")
        return node.along_axis(value, axis, rank)
    shape, blocks = x.type.shape, value.type.shape
    if len(blocks) != rank or ceil_divide(shape[axis], block) != blocks[axis]:
        node.unsupported(f"blocks of {block} on axis {axis} of {x.type} do not fit {value.type}")
    split = node.reshape(value, (*blocks[: axis + 1], 1, *blocks[axis + 1 :]))
    spread = node.expand(split, (*blocks[: axis + 1], block, *blocks[axis + 1 :]))
    joined = node.reshape(spread, (*blocks[:axis], blocks[axis] * block, *blocks[axis + 1 :]))
    return node.take(joined, axis, 0, shape[axis])


@converter("QuantizeLinear")
@converter("QuantizeLinear", domain="com.microsoft")
def quantize_linear(node: ImportNode) -> Value:
    """saturate(round(x / scale) + zero)."""
    x, scale, zero = node.input(0), node.input(1), node.optional(2)
    code = node.attribute("output_dtype", 0)
    dtype = element_type(code) if code else "uint8" if zero is None else zero.type.dtype
    if not node.attribute("saturate", 1):
        node.unsupported("quantization without saturation")
    precision = node.attribute("precision", 0)
    if precision and element_type(precision) not in (scale.type.dtype, "float32"):
        node.unsupported(f"precision {element_type(precision)}")
    zero = node.constant_value(np.zeros(()), dtype) if zero is None else _parameter(node, zero, x)
    return node.emit("quantize", x, _parameter(node, scale, x), zero)


@converter("DequantizeLinear")
@converter("DequantizeLinear", domain="com.microsoft")
def dequantize_linear(node: ImportNode) -> Value:
    """(x − zero)·scale."""
    x, scale, zero = node.input(0), node.input(1), node.optional(2)
    y = node.emit("dequantize", x, _parameter(node, scale, x), None if zero is None else _parameter(node, zero, x))
    code = node.attribute("output_dtype", 0)
    return node.cast(y, element_type(code)) if code else y


def requantize(node: ImportNode, total: Value, scales: tuple[Value, Value], scale: Value, zero: Value) -> Value:
    """int32 sums with their scales' product, quantized anew."""
    real = node.emit("dequantize", total, node.emit("mul", *scales))
    return node.emit("quantize", real, node.reshape(scale, ()), node.reshape(zero, ()))


@converter("QLinearMatMul")
def qlinear_matmul(node: ImportNode) -> Value:
    """Product of quantized matrices, quantized; scales of a per row, those of b per column."""
    a, b = node.input(0), node.input(3)
    if a.type.rank < 2 or b.type.rank < 2:
        node.unsupported(f"operands must be matrices, got {a.type} and {b.type}")
    scale_a, scale_b = node.input(1), node.input(4)
    rank = max(a.type.rank, b.type.rank)
    if scale_a.type.rank == 1:
        scale_a = node.along_axis(scale_a, rank - 2, rank)
    if scale_b.type.rank == 1:
        scale_b = node.along_axis(scale_b, rank - 1, rank)
    return requantize(node, multiply_integers(node, (0, 2), (3, 5)), (scale_a, scale_b), node.input(6), node.input(7))


@converter("QLinearConv")
def qlinear_conv(node: ImportNode) -> Value:
    """Convolution of quantized tensors, quantized; scales of w per output channel."""
    total = convolve_integers(node, (0, 2), (3, 5), node.optional(8))
    # Along the channels, from the right, so that layouts can block it as they do a bias.
    scale_w = node.along_axis(node.input(4), 0, node.type(0).rank - 1)
    return requantize(node, total, (node.reshape(node.input(1), ()), scale_w), node.input(6), node.input(7))


@converter("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: ImportNode) -> list[Value]:
    """x as uint8 over its own range (0 included), with scale and zero point."""
    return quantize_over_range(node, node.input(0))


def quantize_over_range(node: ImportNode, x: Value) -> list[Value]:
    """x as uint8 over its own range (0 included), with scale and zero point."""
    low = high = x
    if x.type.rank:
        axes = range(x.type.rank)
        high, low = (node.emit(op, x, axes=axes, keepdims=True) for op in ("reduce_max", "reduce_min"))
    high = node.reshape(node.emit("relu", high), ())
    low = node.reshape(node.emit("minimum", low, node.scalar(0, x)), ())
    scale = node.emit("div", node.emit("sub", high, low), node.scalar(255, x))
    # A constant 0 would divide by 0; any scale represents it.
    safe = node.emit("where", node.emit("equal", scale, node.scalar(0, x)), node.scalar(1, x), scale)
    shifted = node.emit("div", node.emit("sub", node.scalar(0, x), low), safe)
    zero = node.cast(node.emit("round", node.emit("clip", shifted, minimum=0.0, maximum=255.0)), "uint8")
    return [node.emit("quantize", x, safe, zero), scale, zero]
