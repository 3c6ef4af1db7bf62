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
    inner, reducer = "int8" if dtype == "bool" else _total_dtype(call), _REDUCERS[call.op]()

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
        return x(*position).astype(inner)

    if call.op in ("reduce_max", "reduce_min") and is_float(dtype) and len(shape) - 1 in axes:
        return _float_extreme(call, body, list(ks.values()))
    name = call.op if call.op != "reduce_mean" else "reduce_mean_sum"
    result = te.compute(call.output_shape, lambda *i: reducer(body(*i), axis=list(ks.values())), name=name)
    if dtype == "bool":
        return te.compute(call.output_shape, lambda *i: cast(result(*i), "bool"), name="reduce_bool")
    return _mean(call, result, counted) if call.op == "reduce_mean" else result


def _float_extreme(call: Call, element: Reducer, axes: list[Any]) -> te.Tensor:
    """The extreme of floats along contiguous memory, NaN if there is one.

    TVM splits only its own `max` and `min` into lanes. They start from the greatest finite number, and forget NaN:
    a second reduction finds NaN (2) and whether anything lies before the worst infinity (1).
    """
    greatest, dtype = call.op == "reduce_max", call.dtype
    worst = constant(-math.inf if greatest else math.inf, dtype)

    def kind(x: Expression) -> Expression:
        before = x > worst if greatest else x < worst
        return select(is_nan(x), constant(2, "int32"), select(before, constant(1, "int32"), constant(0, "int32")))

    extreme = te.max if greatest else te.min
    values = te.compute(call.output_shape, lambda *i: extreme(element(*i), axis=axes), name=f"{call.op}_value")
    kinds = te.compute(call.output_shape, lambda *i: te.max(kind(element(*i)), axis=axes), name=f"{call.op}_kind")

    def body(*index: Any) -> Expression:
        found = kinds(*index)
        finite = select(found == 1, values(*index), worst)
        return select(found == 2, constant(math.nan, dtype), finite)

    return te.compute(call.output_shape, body, name=call.op)


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
    """The index of the extreme element along the axis, the first or the last of equal ones; NaN counts as extreme.

    Reductions to one number, which become vector code: the extreme value, whether there is NaN, then the position.
    """
    x, shape, axis = call.tensor(0), call.shape(0), int(call.attributes["axis"])
    keep, last = bool(call.attributes["keepdims"]), bool(call.attributes["select_last"])
    size, reduced = shape[axis], [*shape[:axis], *shape[axis + 1 :]]
    dtype = dtype_of(x) if dtype_of(x) != "bool" else "uint8"
    extreme = te.max if call.op == "arg_max" else te.min

    def along(reduce: Any, value: Any, name: str) -> te.Tensor:
        k = te.reduce_axis((0, size), name="k")

        def body(*index: Any) -> Expression:
            element = x(*index[:axis], k, *index[axis:]).astype(dtype)
            return reduce(value(element, k.var if hasattr(k, "var") else k, index), axis=k)

        return te.compute(reduced, body, name=f"{call.op}_{name}")

    zero, one = constant(0, "int32"), constant(1, "int32")
    values = along(extreme, lambda element, k, index: element, "value")
    nans = along(te.max, lambda e, k, index: select(is_nan(e), one, zero), "nan") if is_float(dtype) else None

    def candidate(element: Expression, k: Expression, index: Any) -> Expression:
        hit = element == values(*index)
        if nans is not None:
            has_nan = nans(*index) > 0
            hit = tirx.any(tirx.all(has_nan, is_nan(element)), tirx.all(tirx.Not(has_nan), hit))
        return select(hit, k.astype("int32"), constant(-1 if last else size, "int32"))

    positions = along(te.max if last else te.min, candidate, "position")

    def body(*index: Any) -> Expression:
        rest = [*index[:axis], *index[axis + 1 :]] if keep else list(index)
        found = positions(*rest)
        # Nothing equals the extreme where all are the worst infinity, from which TVM's reduction does not start.
        if last:
            return select(found < 0, constant(size - 1, "int32"), found).astype("int64")
        return select(found >= size, zero, found).astype("int64")

    return te.compute(call.output_shape, body, name=call.op)
