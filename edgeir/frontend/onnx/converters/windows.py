"""Kernel, strides, padding and dilations of ONNX window operators, with auto_pad resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.ir import Dim
from edgeir.ir.dims import ceil_divide


@dataclass(frozen=True)
class Window:
    """Canonical attributes of a window operator.

    Attributes:
        kernel: extents.
        strides: steps.
        padding: all begins, then all ends.
        dilations: distances between elements.
        ceil_mode: whether an incomplete last window counts.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilations: tuple[int, ...]
    ceil_mode: bool = False


def spatial_list(node: ImportNode, name: str, rank: int, default: int) -> tuple[int, ...]:
    """A list attribute with one entry per spatial axis."""
    values = tuple(node.attribute(name) or [default] * rank)
    if len(values) != rank:
        node.unsupported(f"{name} has {len(values)} entries for {rank} spatial axes")
    return values


def read_window(node: ImportNode, sizes: Sequence[Dim], kernel: Sequence[int]) -> Window:
    """The window attributes of a convolution or pool over an input with these spatial sizes."""
    rank = len(sizes)
    declared = node.attribute("kernel_shape")
    if declared is not None and list(declared) != list(kernel):
        node.unsupported(f"kernel_shape {declared} differs from the weights' {list(kernel)}")
    strides = spatial_list(node, "strides", rank, 1)
    dilations = spatial_list(node, "dilations", rank, 1)
    auto = node.attribute("auto_pad", "NOTSET")
    ceil_mode = bool(node.attribute("ceil_mode", 0))
    if auto in ("NOTSET", ""):
        padding = tuple(node.attribute("pads") or [0] * 2 * rank)
        return Window(tuple(kernel), strides, padding, dilations, ceil_mode)
    if auto == "VALID":
        return Window(tuple(kernel), strides, (0,) * 2 * rank, dilations)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        node.unsupported(f"unknown auto_pad {auto!r}")
    begins, ends = [], []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        # Output size ⌈size / stride⌉, ONNX Conv and MaxPool.
        total = (ceil_divide(size, stride) - 1) * stride + (extent - 1) * dilation + 1 - size
        if not isinstance(total, int):
            node.unsupported(f"auto_pad {auto} with stride {stride} needs fixed sizes: fix them with shapes=…")
        total = max(total, 0)
        small = total // 2
        begins.append(small if auto == "SAME_UPPER" else total - small)
        ends.append(total - small if auto == "SAME_UPPER" else small)
    return Window(tuple(kernel), strides, (*begins, *ends), dilations)


def same_transposed(
    node: ImportNode, total: Sequence[int], upper: bool
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Splits total padding of a transposed convolution: begins, ends, and what the output needs beyond (negative)."""
    begins, ends, extra = [], [], []
    for amount in total:
        extra.append(max(-amount, 0))
        amount = max(amount, 0)
        small = amount // 2
        begins.append(small if upper else amount - small)
        ends.append(amount - small if upper else small)
    return tuple(begins), tuple(ends), tuple(extra)
