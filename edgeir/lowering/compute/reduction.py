"""Reductions over axes; an empty set gives the identity of the reduction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgeir.ir.types import parse_layout
from edgeir.lowering import te
from edgeir.lowering.compute.expressions import (
    Expression,
    cast,
    constant,
    dtype_of,
    highest,
    is_float,
    is_nan,
    is_unsigned,
    lowest,
    nan_max,
    nan_min,
    select,
)
from edgeir.lowering.compute.registry import Call, compute

Reducer = Callable[..., Expression]


def _identity(op: str, dtype: str) -> Expression:
    match op:
        case "reduce_max":
            return lowest(dtype)
        case "reduce_min":
            return highest(dtype)
        case "reduce_prod" | "reduce_all":
            return constant(1, dtype)
        case "reduce_mean" if is_float(dtype):
            return constant(math.nan, dtype)
    return constant(0, dtype)


def _product() -> Any:
    return te.comm_reducer(lambda a, b: a * b, lambda t: constant(1, str(t)), name="product")


_REDUCERS: dict[str, Callable[[], Reducer]] = {
    "reduce_sum": lambda: te.sum,
    "reduce_mean": lambda: te.sum,
    "reduce_max": nan_max,
    "reduce_min": nan_min,
    "reduce_prod": _product,
}


@compute(*_REDUCERS)
def reduce(call: Call) -> te.Tensor:
    """The sum, mean, product or extreme over axes; integer means truncate towards zero."""
    type, shape, axes = call.type(0), call.shape(0), set(call.attributes["axes"])
    dtype = call.dtype
    blocked = len(shape) - type.rank
    if blocked and (parse_layout(type.layout)[1] in axes):
        return _reduce_blocked(call)
    counted = math.prod(shape[axis] for axis in axes)
    if counted == 0:
        value = _identity(call.op, dtype)
        return te.compute(call.output_shape, lambda *_: value, name=call.op)
    ks = {axis: te.reduce_axis((0, shape[axis]), name=f"k{axis}") for axis in sorted(axes)}
    keep, x = bool(call.attributes["keepdims"]), call.tensor(0)
    inner = "int8" if dtype == "bool" else _total_dtype(call)

    def body(*index: Any) -> Expression:
        rest = iter(index)
        position = []
        for axis in range(len(shape)):
            if axis in ks:
                position.append(ks[axis])
                if keep:
                    next(rest)
            else:
                position.append(next(rest))
        return _REDUCERS[call.op]()(x(*position).astype(inner), axis=list(ks.values()))

    result = te.compute(call.output_shape, body, name=call.op if call.op != "reduce_mean" else "reduce_mean_sum")
    if dtype == "bool":
        return te.compute(call.output_shape, lambda *i: cast(result(*i), "bool"), name="reduce_bool")
    return _mean(call, result, counted) if call.op == "reduce_mean" else result


def _total_dtype(call: Call) -> str:
    """The type to accumulate in: an integer mean has a sum that its own type may not hold."""
    if call.op != "reduce_mean" or is_float(call.dtype):
        return call.dtype
    return "uint64" if is_unsigned(call.dtype) else "int64"


def _mean(call: Call, total: te.Tensor, counted: int) -> te.Tensor:
    dtype = call.dtype

    def body(*index: Any) -> Expression:
        if is_float(dtype):
            return total(*index) / constant(counted, dtype)
        return cast(tirx.truncdiv(total(*index), constant(counted, dtype_of(total))), dtype)

    return te.compute(call.output_shape, body, name="reduce_mean")


def _reduce_blocked(call: Call) -> te.Tensor:
    """A reduction that includes the blocked axis: over blocks and those lanes that hold elements; plain result."""
    type, shape, axes = call.type(0), call.shape(0), set(call.attributes["axes"])
    _, blocked, block = parse_layout(type.layout)
    size = int(str(type.shape[blocked]))
    ks = {axis: te.reduce_axis((0, shape[axis]), name=f"k{axis}") for axis in sorted({*axes, len(shape) - 1})}
    keep, x, dtype = bool(call.attributes["keepdims"]), call.tensor(0), call.dtype
    total = _total_dtype(call)
    neutral = _identity(call.op, dtype) if call.op != "reduce_mean" else constant(0, total)

    def body(*index: Any) -> Expression:
        rest = iter(index)
        position = []
        for axis in range(type.rank):
            if axis in ks:
                position.append(ks[axis])
                if keep:
                    next(rest)
            else:
                position.append(next(rest))
        value = x(*position, ks[len(shape) - 1]).astype(total)
        if size % block:
            value = select(ks[blocked] * block + ks[len(shape) - 1] < size, value, neutral)
        return _REDUCERS[call.op]()(value, axis=list(ks.values()))

    result = te.compute(call.output_shape, body, name=call.op)
    counted = math.prod(int(str(type.shape[axis])) for axis in axes)
    return _mean(call, result, counted) if call.op == "reduce_mean" else result


@compute("arg_max", "arg_min")
def arg_extreme(call: Call) -> te.Tensor:
    """The index of the extreme element along the axis, the first or the last of equal ones; NaN counts as extreme."""
    x, shape, axis = call.tensor(0), call.shape(0), int(call.attributes["axis"])
    keep, last = bool(call.attributes["keepdims"]), bool(call.attributes["select_last"])
    greatest = call.op == "arg_max"
    # The pair (position, value); position −1 stands for "none yet".
    dtype = dtype_of(x) if dtype_of(x) != "bool" else "uint8"

    def better(a: Expression, b: Expression) -> Expression:
        """Whether b replaces a, which comes before it."""
        strictly = b > a if greatest else b < a
        if not is_float(dtype):
            return tirx.any(strictly, b == a) if last else strictly
        nan_a, nan_b = is_nan(a), is_nan(b)
        if last:
            return tirx.any(nan_b, tirx.all(tirx.Not(nan_a), tirx.any(strictly, b == a)))
        return tirx.all(tirx.Not(nan_a), tirx.any(nan_b, strictly))

    def combine(a: Any, b: Any) -> tuple[Expression, Expression]:
        take = tirx.any(a[0] < 0, tirx.all(b[0] >= 0, better(a[1], b[1])))
        return select(take, b[0], a[0]), select(take, b[1], a[1])

    def identity(position: str, value: str) -> tuple[Expression, Expression]:
        return constant(-1, str(position)), constant(0, str(value))

    reducer = te.comm_reducer(combine, identity, name=call.op)
    k = te.reduce_axis((0, shape[axis]), name="k")

    def body(*index: Any) -> tuple[Expression, Expression]:
        rest = [*index[:axis], *index[axis + 1 :]] if keep else list(index)
        value = x(*rest[:axis], k, *rest[axis:]).astype(dtype)
        return reducer((k.var.astype("int64") if hasattr(k, "var") else k, value), axis=k)

    positions, _ = te.compute(call.output_shape, body, name=f"{call.op}_pair")
    return te.compute(call.output_shape, lambda *i: positions(*i), name=call.op)
