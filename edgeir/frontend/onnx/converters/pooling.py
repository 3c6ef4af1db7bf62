"""Pools: sliding and global; maximum, average and Lp norm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeir.frontend.onnx.converters.windows import Window, read_window
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value


def _window(node: ImportNode) -> Window:
    x = node.type(0)
    kernel = node.attribute("kernel_shape")
    if x.rank < 3 or kernel is None or len(kernel) != x.rank - 2:
        node.unsupported(f"kernel_shape {kernel} does not fit an input {x}")
    return read_window(node, x.shape[2:], kernel)


def _pool(node: ImportNode, op: str, x: Value, window: Window, **more: bool) -> Value:
    return node.emit(
        op,
        x,
        kernel=window.kernel,
        strides=window.strides,
        padding=window.padding,
        dilations=window.dilations,
        ceil_mode=window.ceil_mode,
        **more,
    )


@converter("MaxPool")
def max_pool(node: ImportNode) -> Value:
    """Maximum over windows."""
    if node.wants(1):
        node.unsupported("indices of the maxima are not supported")
    return _pool(node, "max_pool", node.input(0), _window(node))


@converter("AveragePool")
def average_pool(node: ImportNode) -> Value:
    """Mean over windows."""
    include = bool(node.attribute("count_include_pad", 0))
    return _pool(node, "average_pool", node.input(0), _window(node), count_include_pad=include)


@converter("LpPool")
def lp_pool(node: ImportNode) -> Value:
    """(Σ|x|ᵖ)^(1/p) over windows: the mean with zeros counted, times the window's size."""
    x, window, p = node.input(0), _window(node), node.attribute("p", 2)
    if window.ceil_mode:
        window = _without_ceil(node, window)
    powers = _power(node, x, p)
    count = 1
    for extent in window.kernel:
        count *= extent
    mean = _pool(node, "average_pool", powers, window, count_include_pad=True)
    return _root(node, node.emit("mul", mean, node.scalar(count, x)), p)


def _without_ceil(node: ImportNode, window: Window) -> Window:
    rank = len(window.kernel)
    ends = list(window.padding[rank:])
    for axis, size in enumerate(node.static_shape(0, "ceil_mode")[2:]):
        span = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        room = size + window.padding[axis] + ends[axis] - span
        count = -(-room // window.strides[axis]) + 1
        if (count - 1) * window.strides[axis] >= size + window.padding[axis]:
            count -= 1
        ends[axis] += max(0, (count - 1) * window.strides[axis] - room)
    return Window(window.kernel, window.strides, (*window.padding[:rank], *ends), window.dilations)


def _power(node: ImportNode, x: Value, p: int) -> Value:
    if p == 2:
        return node.emit("mul", x, x)
    size = node.emit("abs", x)
    return size if p == 1 else node.emit("pow", size, node.scalar(p, x))


def _root(node: ImportNode, x: Value, p: int) -> Value:
    if p == 2:
        return node.emit("sqrt", x)
    return x if p == 1 else node.emit("pow", x, node.scalar(1 / p, x))


def _spatial_axes(node: ImportNode) -> Sequence[int]:
    if node.type(0).rank < 3:
        node.unsupported(f"no spatial axes in {node.type(0)}")
    return range(2, node.type(0).rank)


@converter("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: ImportNode) -> Value:
    """Mean or maximum over all spatial axes."""
    op = "reduce_mean" if node.op_type == "GlobalAveragePool" else "reduce_max"
    return node.emit(op, node.input(0), axes=_spatial_axes(node), keepdims=True)


@converter("GlobalLpPool")
def global_lp_pool(node: ImportNode) -> Value:
    """Lp norm over all spatial axes."""
    p = node.attribute("p", 2)
    return _root(
        node, node.emit("reduce_sum", _power(node, node.input(0), p), axes=_spatial_axes(node), keepdims=True), p
    )
