"""Sliding windows of convolution and pooling: how many there are, and numpy views of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim, ceil_divide, floor_divide


def window_counts(
    sizes: Sequence[Dim],
    kernel: Sequence[Dim],
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: bool = False,
) -> tuple[Dim, ...]:
    """Number of windows along each spatial axis: ⌊(size + padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.

    With `ceil_mode` the quotient rounds up, and a last window that would start in the end padding or beyond is
    dropped, as ONNX defines MaxPool and AveragePool from opset 19 on; that needs fixed sizes wherever the stride
    is not 1.

    Args:
        sizes: spatial dimensions of the input.
        kernel: window extents.
        strides: steps between windows.
        padding: all begins, then all ends.
        dilations: distances between the elements of a window.
        ceil_mode: whether an incomplete last window counts.

    Raises:
        TypeInferenceError: an attribute has the wrong length or range, or a window does not fit.
    """
    check_window(len(sizes), kernel, strides, padding, dilations)
    counts: list[Dim] = []
    rank = len(sizes)
    for axis, (size, extent, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        begin, end = padding[axis], padding[axis + rank]
        room = size + (begin + end) - (extent - 1) * dilation - 1
        if isinstance(room, int) and room < 0:
            raise TypeInferenceError(
                f"window does not fit into spatial axis {axis}",
                expected=f"size + padding ≥ dilation·(kernel − 1) + 1 = {(extent - 1) * dilation + 1}",
                got=f"size {size}, padding {begin} + {end}",
            )
        if not ceil_mode or stride == 1:
            counts.append(floor_divide(room, stride) + 1)
            continue
        count = ceil_divide(room, stride) + 1
        if not isinstance(count, int) or not isinstance(size, int):
            # Whether the last window starts in the end padding depends on the size.
            raise TypeInferenceError(
                "ceil_mode needs a fixed size", got=f"{size} at spatial axis {axis}", hint="fix it with shapes=…"
            )
        if (count - 1) * stride >= size + begin:
            count -= 1
        counts.append(count)
    return tuple(counts)


def check_window(
    rank: int, kernel: Sequence[Dim], strides: Sequence[int], padding: Sequence[int], dilations: Sequence[int]
) -> None:
    """Checks lengths and ranges of window attributes for `rank` spatial axes.

    Raises:
        TypeInferenceError: one is wrong.
    """
    for name, values, length, least in (
        ("kernel", kernel, rank, 1),
        ("strides", strides, rank, 1),
        ("padding", padding, 2 * rank, 0),
        ("dilations", dilations, rank, 1),
    ):
        if len(values) != length or any(isinstance(value, int) and value < least for value in values):
            raise TypeInferenceError(
                f"{name} is wrong", expected=f"{length} integers of at least {least}", got=list(values)
            )


def pad_spatial(x: np.ndarray, padding: Sequence[int], fill: object, extra_end: Sequence[int] = ()) -> np.ndarray:
    """`x` (N, C, *S) padded with `fill` on its spatial axes (`padding`: begins, then ends; plus `extra_end`)."""
    rank = x.ndim - 2
    ends = [end + more for end, more in zip(padding[rank:], extra_end or (0,) * rank, strict=True)]
    width = [(0, 0), (0, 0), *zip(padding[:rank], ends, strict=True)]
    result = np.full([size + b + e for size, (b, e) in zip(x.shape, width, strict=True)], fill, dtype=x.dtype)
    result[tuple(slice(b, b + size) for size, (b, _) in zip(x.shape, width, strict=True))] = x
    return result


def window_view(
    padded: np.ndarray,
    counts: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> np.ndarray:
    """A read-only view (N, C, *counts, *kernel) of the windows of `padded` (N, C, *S), which holds them all."""
    spatial = padded.strides[2:]
    steps = [step * stride for step, stride in zip(spatial, strides, strict=True)]
    inner = [step * dilation for step, dilation in zip(spatial, dilations, strict=True)]
    return np.lib.stride_tricks.as_strided(
        padded,
        shape=(*padded.shape[:2], *counts, *kernel),
        strides=(*padded.strides[:2], *steps, *inner),
        writeable=False,
    )


def overhang(
    sizes: Sequence[int],
    counts: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
) -> tuple[int, ...]:
    """How far the last window reaches beyond the padded end of each spatial axis (0 unless in ceil mode)."""
    result = []
    rank = len(sizes)
    for axis in range(rank):
        reach = (counts[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        result.append(max(0, reach - sizes[axis] - padding[axis] - padding[axis + rank]))
    return tuple(result)


def static_counts(counts: Sequence[Dim]) -> tuple[int, ...]:
    """Window counts as integers.

    Raises:
        TypeInferenceError: one is symbolic.
    """
    fixed = tuple(count for count in counts if isinstance(count, int))
    if len(fixed) != len(counts):
        raise TypeInferenceError("a fixed size is needed", got=list(counts), hint="fix it with shapes=…")
    return fixed
