"""The k greatest or least elements: a stable merge sort of positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import (
    Expression,
    constant,
    dtype_of,
    flat_index,
    is_float,
    is_nan,
    select,
    unravel,
)
from edgeir.lowering.compute.loops import around, loop_nest
from edgeir.lowering.compute.registry import Call, compute, fixed


@compute("top_k")
def top_k(call: Call) -> list[te.Tensor]:
    """Values and positions of the k greatest (or least) elements along the axis; equal ones keep their order."""
    shape, axis = call.shape(0), int(call.attributes["axis"])
    k, largest = fixed(call.attributes["k"], "top_k"), bool(call.attributes["largest"])
    result = (*shape[:axis], k, *shape[axis + 1 :])
    x = call.tensor(0)
    if not math.prod(result):
        zero = tirx.const(0, "int64")
        return [
            te.compute(result, lambda *i: x(*i), name="top_k_values"),
            te.compute(result, lambda *_: zero, name="top_k_positions"),
        ]
    order = _sorted_positions(x, shape, axis, largest)

    def position(index: Any) -> Expression:
        return order(*index)

    def value(*index: Any) -> Expression:
        return x(*index[:axis], position(index), *index[axis + 1 :])

    return [
        te.compute(result, value, name="top_k_values"),
        te.compute(result, lambda *i: position(i).astype("int64"), name="top_k_positions"),
    ]


def _sorted_positions(x: te.Tensor, shape: tuple[int, ...], axis: int, largest: bool) -> te.Tensor:
    """int32 positions along the axis in sorted order.

    Runs of doubling width are merged; an element's place in the merged run is its place in its own run plus the
    number of elements of the other run that come before it, which a binary search finds.
    """
    outer, size, inner = around(shape, axis)
    total = math.prod(shape)
    passes = max(1, math.ceil(math.log2(size))) if size > 1 else 0

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> None:
        source, buffers = ins[0], (outs[0], outs[1])

        # With an even number of passes the result ends where it begins: in the first buffer.
        first = passes % 2
        with T.serial(0, total) as flat:
            buffers[first][flat] = tirx.floormod(tirx.floordiv(flat, inner), size)
        for step in range(passes):
            current, following = buffers[(first + step) % 2], buffers[(first + step + 1) % 2]
            _merge(source, current, following, 2**step, outer, size, inner, largest, outs[2])

    # One-dimensional, because TVM's bounds of buffers with computed positions fail on split indices.
    flat_x = te.compute((total,), lambda i: _sort_key(x(*unravel(i, shape))), name="sort_keys")
    order = loop_nest("sort", [flat_x], [(total,), (total,), (3,)], ["int32", "int32", "int32"], body)[0]
    return te.compute(shape, lambda *i: order(flat_index(i, shape)), name="order")


def _merge(
    source: Any, current: Any, following: Any, width: int, outer: int, size: int, inner: int, largest: bool, bounds: Any
) -> None:
    """One pass: merges neighbouring runs of `width` positions; `bounds` holds a binary search: begin, end, middle."""

    def at(o: Any, k: Any, i: Any) -> Any:
        return (o * size + k) * inner + i

    with T.serial(0, outer) as o, T.serial(0, inner) as i, T.serial(0, size) as e:
        run = tirx.floordiv(e, width)
        left = tirx.floormod(run, 2) == 0
        begin: Expression = tirx.min(select(left, (run + 1) * width, (run - 1) * width), size)
        end = tirx.min(begin + width, size)
        own = source[at(o, current[at(o, e, i)], i)]
        bounds[0] = begin
        bounds[1] = end
        with T.serial(0, width.bit_length()) as _, T.If(bounds[0] < bounds[1]), T.Then():
            bounds[2] = (bounds[0] + bounds[1]) >> 1
            other = source[at(o, current[at(o, bounds[2], i)], i)]
            # Of equal elements those of the left run come first.
            earlier = tirx.any(
                tirx.all(left, _before(other, own, largest)),
                tirx.all(tirx.Not(left), tirx.Not(_before(own, other, largest))),
            )
            with T.If(earlier):
                with T.Then():
                    bounds[0] = bounds[2] + 1
                with T.Else():
                    bounds[1] = bounds[2]
        base = select(left, run * width, begin)
        bounds[2] = base + (e - run * width) + (bounds[0] - begin)
        following[at(o, bounds[2], i)] = current[at(o, e, i)]


def _before(a: Expression, b: Expression, largest: bool) -> Expression:
    """Whether key a comes strictly before key b."""
    return a > b if largest else a < b


def _sort_key(x: Expression) -> Expression:
    """An integer that orders like x: NaN above every number, both zeros equal.

    TVM rewrites "not a < b" to "b ≤ a", which NaN breaks; the bits of a float, mirrored where negative, are ordered.
    """
    dtype = dtype_of(x)
    if dtype == "bool":
        return x.astype("uint8")
    if not is_float(dtype):
        return x
    whole = "int64" if dtype == "float64" else "int32"
    bits: Expression = tirx.reinterpret(whole, x)
    magnitude = constant(2**63 - 1 if whole == "int64" else 2**31 - 1, whole)
    mirrored = select(bits < 0, bits ^ magnitude, bits)
    return select(is_nan(x), magnitude, select(x == constant(0, dtype), constant(0, whole), mirrored))
