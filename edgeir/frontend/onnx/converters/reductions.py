"""Reductions, extrema and cumulative sums."""

from __future__ import annotations

import numpy as np

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ir.dtype import FLOATS

_PLAIN = {
    "ReduceMax": "reduce_max",
    "ReduceMean": "reduce_mean",
    "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod",
    "ReduceSum": "reduce_sum",
}


def _axes(node: ImportNode) -> tuple[int, ...]:
    """Axes to reduce, not negative; empty for no reduction."""
    rank = node.type(0).rank
    since = 13 if node.op_type == "ReduceSum" else 18
    axes = node.optional_integers(1) if node.opset >= since else node.attribute("axes")
    if not axes:
        return () if node.attribute("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({node.axis(axis, rank) for axis in axes}))


def _reduce(node: ImportNode, op: str, x: Value, axes: tuple[int, ...]) -> Value:
    keepdims = bool(node.attribute("keepdims", 1))
    return node.emit(op, x, axes=axes, keepdims=keepdims) if axes else x


@converter(*_PLAIN)
def reduce_plain(node: ImportNode) -> Value:
    """Maximum, mean, minimum, product or sum."""
    x, axes = node.input(0), _axes(node)
    if x.type.dtype == "bool":
        return node.cast(_reduce(node, _PLAIN[node.op_type], node.cast(x, "uint8"), axes), "bool")
    return _reduce(node, _PLAIN[node.op_type], x, axes)


@converter("ReduceL1")
def reduce_l1(node: ImportNode) -> Value:
    """Σ|x|."""
    return _reduce(node, "reduce_sum", node.emit("abs", node.input(0)), _axes(node))


@converter("ReduceSumSquare")
def reduce_sum_square(node: ImportNode) -> Value:
    """Σx²."""
    return _reduce(node, "reduce_sum", node.emit("mul", node.input(0), node.input(0)), _axes(node))


@converter("ReduceL2")
def reduce_l2(node: ImportNode) -> Value:
    """√Σx²; integers through float64."""
    x = node.input(0)
    total = _reduce(node, "reduce_sum", node.emit("mul", x, x), _axes(node))
    if x.type.dtype in FLOATS:
        return node.emit("sqrt", total)
    return node.cast(node.emit("sqrt", node.cast(total, "float64")), x.type.dtype)


@converter("ReduceLogSum")
def reduce_log_sum(node: ImportNode) -> Value:
    """ln Σx."""
    x = node.input(0)
    if x.type.dtype in FLOATS:
        return node.emit("log", _reduce(node, "reduce_sum", x, _axes(node)))
    total = _reduce(node, "reduce_sum", x, _axes(node))
    return node.cast(node.emit("log", node.cast(total, "float64")), x.type.dtype)


@converter("ReduceLogSumExp")
def reduce_log_sum_exp(node: ImportNode) -> Value:
    """ln Σeˣ, shifted by the maximum so that it does not overflow."""
    x, axes = node.input(0), _axes(node)
    dtype = x.type.dtype
    if dtype not in FLOATS:
        x = node.cast(x, "float64")
    if not axes:
        return node.cast(x, dtype)
    top = node.emit("reduce_max", x, axes=axes, keepdims=True)
    # An infinite maximum would give ∞ − ∞.
    top = node.emit("where", node.emit("is_inf", top), node.scalar(0, x), top)
    total = node.emit("reduce_sum", node.emit("exp", node.emit("sub", x, top)), axes=axes, keepdims=True)
    y = node.emit("add", node.emit("log", total), top)
    if not node.attribute("keepdims", 1):
        y = node.reshape(y, [dim for axis, dim in enumerate(y.type.shape) if axis not in axes])
    return node.cast(y, dtype)


@converter("ArgMax", "ArgMin")
def arg_extremum(node: ImportNode) -> Value:
    """Index of the greatest or least element."""
    return node.emit(
        "arg_max" if node.op_type == "ArgMax" else "arg_min",
        node.input(0),
        axis=node.axis(node.attribute("axis", 0), node.type(0).rank),
        keepdims=bool(node.attribute("keepdims", 1)),
        select_last=bool(node.attribute("select_last_index", 0)),
    )


@converter("CumSum", "CumProd")
def cumulative(node: ImportNode) -> Value:
    """Sums or products of the elements so far."""
    axis = int(np.asarray(node.constant(1)).reshape(()))
    return node.emit(
        "cum_sum" if node.op_type == "CumSum" else "cum_prod",
        node.input(0),
        axis=node.axis(axis, node.type(0).rank),
        exclusive=bool(node.attribute("exclusive", 0)),
        reverse=bool(node.attribute("reverse", 0)),
    )
