"""Pools over windows, in plain and blocked layouts."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, constant, lowest
from edgeir.lowering.compute.registry import Call, compute
from edgeir.lowering.compute.windows import pad_spatial, reach_beyond


def _geometry(call: Call) -> tuple[tuple[int, ...], ...]:
    rank = len(call.attributes["kernel"])
    return (
        call.integers("kernel"),
        call.integers("strides"),
        call.integers("padding")[:rank],
        call.integers("padding")[rank:],
        call.integers("dilations"),
        call.shape(0)[2 : 2 + rank],
        call.output_shape[2 : 2 + rank],
    )


def _window(call: Call, fill: Expression, name: str) -> tuple[Any, list[Any]]:
    """The element of the padded input for an output index, and the window's reduction axes."""
    kernel, strides, begins, _, dilations, sizes, counts = _geometry(call)
    ends = reach_beyond(sizes, counts, kernel, strides, begins, dilations)
    padded = pad_spatial(call.tensor(0), begins, ends, fill, f"{name}_pad")
    ks = [te.reduce_axis((0, extent), name=f"k{axis}") for axis, extent in enumerate(kernel)]
    rank = len(kernel)

    def at(index: Any) -> Expression:
        spatial = [p * s + k * d for p, s, k, d in zip(index[2 : 2 + rank], strides, ks, dilations, strict=True)]
        return padded(index[0], index[1], *spatial, *index[2 + rank :])

    return at, ks


@compute("max_pool")
def max_pool(call: Call) -> te.Tensor:
    """The greatest element of each window; the border does not count, and of NaN in a window nothing is promised."""
    at, ks = _window(call, lowest(call.dtype), "max_pool")
    return te.compute(call.output_shape, lambda *i: te.max(at(i), axis=ks), name="max_pool")


@compute("average_pool")
def average_pool(call: Call) -> te.Tensor:
    """The mean of each window, over the elements inside the input (or the padded input)."""
    kernel, strides, begins, ends, dilations, sizes, counts = _geometry(call)
    dtype = call.dtype
    at, ks = _window(call, constant(0, dtype), "average_pool")
    total = te.compute(call.output_shape, lambda *i: te.sum(at(i), axis=ks), name="average_pool_sum")
    include = bool(call.attributes["count_include_pad"])
    every = math.prod(kernel)

    def count(index: Any) -> Expression:
        """Elements of a window that count: per axis, positions of the window inside the bounds."""
        product: Expression = tirx.const(1, "int32")
        for axis, (k, s, b, e, d, size, outputs) in enumerate(
            zip(kernel, strides, begins, ends, dilations, sizes, counts, strict=True)
        ):
            low, high = (-b, size + e) if include else (0, size)
            inside = [
                [low <= p * s - b + j * d < high for j in range(k)] for p in (*range(min(outputs, k)), outputs - 1)
            ]
            if all(all(row) for row in inside):
                product = product * k
                continue
            start = index[2 + axis] * s - b
            # Positions j with low ≤ start + j·d < high.
            first: Expression = tirx.max(tirx.floordiv(low - start + d - 1, d), 0)
            last: Expression = tirx.min(tirx.floordiv(high - start + d - 1, d), k)
            product = product * (last - first)
        return product

    def body(*index: Any) -> Expression:
        number = count(index)
        if isinstance(number, tirx.IntImm) or _is_constant(kernel, strides, begins, ends, dilations, sizes, counts):
            return total(*index) / constant(every, dtype)
        return total(*index) / number.astype(dtype)

    return te.compute(call.output_shape, body, name="average_pool")


def _is_constant(kernel: Any, strides: Any, begins: Any, ends: Any, dilations: Any, sizes: Any, counts: Any) -> bool:
    """Whether no window reaches beyond the input."""
    return not any(begins) and not any(reach_beyond(sizes, counts, kernel, strides, begins, dilations))
