"""Operators on quantized tensors of onnxruntime's domain, as its quantization tool writes them.

Definitions: onnxruntime's "Contrib Operators" (ContribOperators.md). An absent zero point is 0.
"""

from __future__ import annotations

import numpy as np

from edgeir.frontend.onnx.converters.matrices import multiply_integers
from edgeir.frontend.onnx.converters.quantization import quantize_over_range, requantize
from edgeir.frontend.onnx.converters.windows import read_window
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value

_DOMAIN = "com.microsoft"


def _scalar(node: ImportNode, index: int) -> Value | None:
    """A parameter per tensor; None where it is absent."""
    value = node.optional(index)
    if value is not None and value.type.elements != 1:
        node.unsupported(f"input {index} must have one element, got {value.type}")
    return None if value is None else node.reshape(value, ())


def _dequantized(node: ImportNode, x: int, scale: int) -> Value:
    """The operand at `x` in floating point; its zero point follows its scale."""
    return node.emit("dequantize", node.input(x), _required(node, scale), _scalar(node, scale + 1))


def _required(node: ImportNode, index: int) -> Value:
    value = _scalar(node, index)
    return node.input(index) if value is None else value


def _quantized(node: ImportNode, y: Value, scale: int, like: Value) -> Value:
    """The result in `like`'s element type; its zero point follows its scale."""
    zero = _scalar(node, scale + 1)
    zero = node.constant_value(np.zeros(()), like.type.dtype) if zero is None else zero
    return node.emit("quantize", y, _required(node, scale), node.reshape(zero, ()))


def _plain_channels(node: ImportNode) -> None:
    if node.attribute("channels_last", 0):
        node.unsupported("channels as the last axis")


@converter("QLinearAdd", "QLinearMul", domain=_DOMAIN)
def qlinear_binary(node: ImportNode) -> Value:
    """Sum or product of two quantized tensors."""
    op = "add" if node.op_type == "QLinearAdd" else "mul"
    return _quantized(node, node.emit(op, _dequantized(node, 0, 1), _dequantized(node, 3, 4)), 6, node.input(0))


@converter("QLinearSigmoid", "QLinearLeakyRelu", domain=_DOMAIN)
def qlinear_unary(node: ImportNode) -> Value:
    """A function of each element."""
    x = _dequantized(node, 0, 1)
    if node.op_type == "QLinearSigmoid":
        y = node.emit("sigmoid", x)
    else:
        y = node.emit("leaky_relu", x, alpha=node.attribute("alpha", 0.01))
    return _quantized(node, y, 3, node.input(0))


@converter("QLinearSoftmax", domain=_DOMAIN)
def qlinear_softmax(node: ImportNode) -> Value:
    """eˣ / Σeˣ along an axis."""
    x = _dequantized(node, 0, 1)
    axis = node.axis(node.attribute("axis", -1), x.type.rank)
    if node.attribute("opset", 13) < 13 and any(dim != 1 for dim in x.type.shape[axis + 1 :]):
        node.unsupported("softmax over several axes")
    return _quantized(node, node.emit("softmax", x, axis=axis), 3, node.input(0))


@converter("QLinearConcat", domain=_DOMAIN)
def qlinear_concat(node: ImportNode) -> Value:
    """Operands one after the other; first come the result's scale and zero point."""
    parts = [_dequantized(node, index, index + 1) for index in range(2, len(node.inputs), 3)]
    axis = node.axis(node.attribute("axis", 0), parts[0].type.rank)
    y = parts[0] if len(parts) == 1 else node.emit("concat", *parts, axis=axis)
    return _quantized(node, y, 0, node.input(2))


@converter("QLinearGlobalAveragePool", domain=_DOMAIN)
def qlinear_global_average_pool(node: ImportNode) -> Value:
    """Mean over all spatial axes."""
    _plain_channels(node)
    x = _dequantized(node, 0, 1)
    y = node.emit("reduce_mean", x, axes=tuple(range(2, x.type.rank)), keepdims=True)
    return _quantized(node, y, 3, node.input(0))


@converter("QLinearReduceMean", domain=_DOMAIN)
def qlinear_reduce_mean(node: ImportNode) -> Value:
    """Mean over some axes; all, if none are named."""
    x = _dequantized(node, 0, 1)
    axes = node.attribute("axes") or range(x.type.rank)
    axes = tuple(sorted(node.axis(axis, x.type.rank) for axis in axes))
    y = node.emit("reduce_mean", x, axes=axes, keepdims=bool(node.attribute("keepdims", 1)))
    return _quantized(node, y, 3, node.input(0))


@converter("QLinearAveragePool", domain=_DOMAIN)
def qlinear_average_pool(node: ImportNode) -> Value:
    """Mean over windows."""
    _plain_channels(node)
    x, kernel = _dequantized(node, 0, 1), node.attribute("kernel_shape")
    if x.type.rank < 3 or kernel is None or len(kernel) != x.type.rank - 2:
        node.unsupported(f"kernel_shape {kernel} does not fit an input {x.type}")
    window = read_window(node, x.type.shape[2:], kernel)
    y = node.emit(
        "average_pool",
        x,
        kernel=window.kernel,
        strides=window.strides,
        padding=window.padding,
        dilations=window.dilations,
        ceil_mode=window.ceil_mode,
        count_include_pad=bool(node.attribute("count_include_pad", 0)),
    )
    return _quantized(node, y, 3, node.input(0))


@converter("QGemm", domain=_DOMAIN)
def qgemm(node: ImportNode) -> Value:
    """alpha·A·B + C of quantized matrices; C is int32 in steps of alpha·a_scale·b_scale. Float without y_scale."""
    a, b, c = node.input(0), node.input(3), node.optional(6)
    a_zero, b_zero = _scalar(node, 2), node.optional(5)
    if b_zero is not None and b_zero.type.elements == 1:
        b_zero = node.reshape(b_zero, ())
    if a.type.rank != 2 or b.type.rank != 2:
        node.unsupported(f"operands must be matrices, got {a.type} and {b.type}")
    transpose_a, transpose_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    total = node.emit("matmul_integer", a, b, a_zero, b_zero, transpose_a=transpose_a, transpose_b=transpose_b)
    if c is not None:
        total = node.emit("add", total, c)
    scale_a, scale_b = _required(node, 1), node.along_axis(node.input(4), 0, 1)
    alpha = node.attribute("alpha", 1.0)
    if alpha != 1:
        scale_a = node.emit("mul", scale_a, node.scalar(alpha, scale_a))
    if node.optional(7) is None:
        return node.emit("dequantize", total, node.emit("mul", scale_a, scale_b))
    zero = _scalar(node, 8)
    zero = node.constant_value(np.zeros(()), a.type.dtype) if zero is None else zero
    return requantize(node, total, (scale_a, scale_b), node.input(7), zero)


@converter("MatMulIntegerToFloat", domain=_DOMAIN)
def matmul_integer_to_float(node: ImportNode) -> Value:
    """Product of quantized matrices in floating point, plus a bias."""
    total = multiply_integers(node, (0, 4), (1, 5))
    scale_b = node.along_axis(node.input(3), 0, 1)
    y = node.emit("dequantize", total, node.emit("mul", _required(node, 2), scale_b))
    bias = node.optional(6)
    return y if bias is None else node.emit("add", y, bias)


@converter("DynamicQuantizeMatMul", domain=_DOMAIN)
def dynamic_quantize_matmul(node: ImportNode) -> Value:
    """A float matrix, quantized over its own range, times a quantized one, plus a bias."""
    quantized, scale, zero = quantize_over_range(node, node.input(0))
    b, b_zero = node.input(1), node.optional(3)
    if quantized.type.rank < 2 or b.type.rank < 2:
        node.unsupported(f"operands must be matrices, got {quantized.type} and {b.type}")
    if b_zero is not None and b_zero.type.elements == 1:
        b_zero = node.reshape(b_zero, ())
    total = node.emit("matmul_integer", quantized, b, zero, b_zero)
    scale_b = node.along_axis(node.input(2), 0, 1)
    y = node.emit("dequantize", total, node.emit("mul", scale, scale_b))
    bias = node.optional(4)
    return y if bias is None else node.emit("add", y, bias)
