"""Writes at computed positions, in row-major order of the updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, cast, dtype_of, flat_index, maximum, minimum, unravel
from edgeir.lowering.compute.indexing import position_of
from edgeir.lowering.compute.loops import loop_nest
from edgeir.lowering.compute.registry import Call, compute


def _combined(old: Expression, update: Expression, reduction: str) -> Expression:
    boolean = dtype_of(old) == "bool"
    match reduction:
        case "add":
            return tirx.any(old, update) if boolean else old + update
        case "mul":
            return tirx.all(old, update) if boolean else old * update
        case "max":
            return cast(maximum(old, update), dtype_of(old))
        case "min":
            return cast(minimum(old, update), dtype_of(old))
    return update


def _scatter(call: Call, count: int, place: Any) -> te.Tensor:
    """The result of writing `count` updates; `place(indices, j)` is the flat position that update j goes to."""
    shape, dtype = call.output_shape, call.dtype
    x, indices, updates = call.tensor(0), call.tensor(1), call.tensor(2)
    if not math.prod(shape) or not count:
        return te.compute(shape, lambda *i: x(*i), name=call.op)
    reduction = str(call.attributes["reduction"])

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> None:
        source, where, values = ins
        y = outs[0]
        with T.serial(0, math.prod(shape)) as i:
            y[i] = source[i]
        with T.serial(0, count) as j:
            target = place(where, j)
            y[target] = _combined(y[target], values[j], reduction)

    return loop_nest(call.op, [x, indices, updates], [shape], [dtype], body)[0]


@compute("scatter_elements")
def scatter_elements(call: Call) -> te.Tensor:
    """y[indices[i, j], j] = updates[i, j] for axis 0, or combined with what is there."""
    shape, index_shape, axis = call.output_shape, call.shape(1), int(call.attributes["axis"])

    def place(where: Any, j: Any) -> Expression:
        position = unravel(j, index_shape)
        position[axis] = position_of(where[j], shape[axis])
        return flat_index(position, shape)

    return _scatter(call, math.prod(index_shape), place)


@compute("scatter_nd")
def scatter_nd(call: Call) -> te.Tensor:
    """The slices at index tuples replaced by updates, or combined with them."""
    shape, index_shape = call.output_shape, call.shape(1)
    depth = index_shape[-1]
    inner = math.prod(shape[depth:])

    def place(where: Any, j: Any) -> Expression:
        row, rest = tirx.floordiv(j, max(1, inner)), tirx.floormod(j, max(1, inner))
        position = [position_of(where[row * depth + i], shape[i]) for i in range(depth)]
        return flat_index(position, shape[:depth]) * inner + rest

    return _scatter(call, math.prod(index_shape[:-1]) * inner, place)
