"""Convolutions, on floats and on integers."""

from __future__ import annotations

from edgeir.frontend.onnx.converters.windows import read_window, same_transposed, spatial_list
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ops.integer import ACTIVATIONS


def convolve(node: ImportNode, x: Value, w: Value, *others: Value | None, op: str = "conv") -> Value:
    """An IR convolution (`conv` or `conv_integer`) with the node's attributes; `others` are its further operands."""
    if x.type.rank < 3 or w.type.rank != x.type.rank:
        node.unsupported(f"weights {w.type} do not fit an input {x.type}")
    kernel = tuple(dim for dim in w.type.shape[2:] if isinstance(dim, int))
    if len(kernel) != w.type.rank - 2:
        node.unsupported(f"the kernel's size is not known: {w.type}")
    window = read_window(node, x.type.shape[2:], kernel)
    return node.emit(
        op,
        x,
        w,
        *others,
        strides=window.strides,
        padding=window.padding,
        dilations=window.dilations,
        groups=node.attribute("group", 1),
    )


@converter("Conv")
def conv(node: ImportNode) -> Value:
    """Cross-correlation."""
    return convolve(node, node.input(0), node.input(1), node.optional(2))


@converter("ConvInteger")
def conv_integer(node: ImportNode) -> Value:
    """Convolution of int8 or uint8 in int32, zero points subtracted (padding therefore is zero)."""
    return convolve_integers(node, (0, 2), (1, 3), None)


def convolve_integers(node: ImportNode, x: tuple[int, int], w: tuple[int, int], bias: Value | None) -> Value:
    """Sums of products in int32; `x` and `w` are the positions of the operands and of their zero points."""
    left, right = node.input(x[0]), node.input(w[0])
    x_zero, w_zero = zero_point(node, x[1]), zero_point(node, w[1])
    if left.type.dtype in ACTIVATIONS and right.type.dtype in ACTIVATIONS and (x_zero is None or x_zero.type.rank == 0):
        return convolve(node, left, right, bias, x_zero, w_zero, op="conv_integer")
    return convolve(node, centered(node, *x, 0), centered(node, *w, 0), bias)


def zero_point(node: ImportNode, index: int) -> Value | None:
    """An optional zero point; one of a single element is a scalar."""
    zero = node.optional(index)
    return node.reshape(zero, ()) if zero is not None and zero.type.elements == 1 else zero


def centered(node: ImportNode, index: int, zero: int, axis: int) -> Value:
    """An integer operand minus its zero point, in int32; a vector of zero points lies along `axis`."""
    value = node.cast(node.input(index), "int32")
    point = node.optional(zero)
    if point is None:
        return value
    point = node.cast(point, "int32")
    if point.type.rank == 1:
        point = node.along_axis(point, axis, value.type.rank)
    return node.emit("sub", value, point)


@converter("ConvTranspose")
def conv_transpose(node: ImportNode) -> Value:
    """Transposed convolution; output_shape and auto_pad become padding."""
    x, w = node.input(0), node.input(1)
    rank = x.type.rank - 2
    if rank < 1 or w.type.rank != x.type.rank:
        node.unsupported(f"weights {w.type} do not fit an input {x.type}")
    kernel = tuple(dim for dim in w.type.shape[2:] if isinstance(dim, int))
    if len(kernel) != rank:
        node.unsupported(f"the kernel's size is not known: {w.type}")
    declared = node.attribute("kernel_shape")
    if declared is not None and list(declared) != list(kernel):
        node.unsupported(f"kernel_shape {declared} differs from the weights' {list(kernel)}")
    strides = spatial_list(node, "strides", rank, 1)
    dilations = spatial_list(node, "dilations", rank, 1)
    extra = spatial_list(node, "output_padding", rank, 0)
    auto = node.attribute("auto_pad", "NOTSET")
    shape = node.attribute("output_shape")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if shape:
        wanted = list(shape)[-rank:]
        total = []
        for axis, size in enumerate(x.type.shape[2:]):
            amount = (size - 1) * strides[axis] + extra[axis] + spans[axis] - wanted[axis]
            if not isinstance(amount, int):
                node.unsupported("output_shape needs fixed sizes: fix them with shapes=…")
            total.append(amount)
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        # Output size is size·stride.
        total = [extra[axis] + spans[axis] - strides[axis] for axis in range(rank)]
    elif auto in ("NOTSET", "VALID", ""):
        pads = tuple(node.attribute("pads") or [0] * 2 * rank) if auto != "VALID" else (0,) * 2 * rank
        return _emit(node, strides, pads, dilations, extra)
    else:
        node.unsupported(f"unknown auto_pad {auto!r}")
    begins, ends, more = same_transposed(node, total, auto == "SAME_UPPER")
    extra = tuple(a + b for a, b in zip(extra, more, strict=True))
    return _emit(node, strides, (*begins, *ends), dilations, extra)


def _emit(
    node: ImportNode,
    strides: tuple[int, ...],
    padding: tuple[int, ...],
    dilations: tuple[int, ...],
    output_padding: tuple[int, ...],
) -> Value:
    return node.emit(
        "conv_transpose",
        node.input(0),
        node.input(1),
        node.optional(2),
        strides=strides,
        padding=padding,
        dilations=dilations,
        output_padding=output_padding,
        groups=node.attribute("group", 1),
    )
