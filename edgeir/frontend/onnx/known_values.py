"""Integer arrays known up to symbolic dimensions: what a model computes from shapes.

Exporters compute the operands of Reshape, Expand or Slice from `Shape` by integer arithmetic. Such a value is an
array of `Dim`s here (numpy, dtype object); this file evaluates IR operators on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeir.ir import Dim, SymbolicDim
from edgeir.ir.dims import floor_divide

LARGEST_KNOWN = 64
"""Elements: shapes are short, and longer vectors are data."""

FOLD_ELEMENTS = 1 << 16
"""Constants of up to this many elements fold at import; larger ones are left to passes."""

LARGEST_VALUE = 2**31 - 1
"""Elements of any tensor: indices fit 32 bits."""

Rule = Callable[[Sequence[np.ndarray], Mapping[str, Any]], np.ndarray | None]


def known_array(items: Sequence[Dim] | np.ndarray, shape: Sequence[int] | None = None) -> np.ndarray:
    """An array of dimensions; numpy integers become Python's."""
    flat = items.ravel().tolist() if isinstance(items, np.ndarray) else list(items)
    array = np.empty(len(flat), dtype=object)
    for index, item in enumerate(flat):
        array[index] = item if isinstance(item, SymbolicDim) else int(item)
    return array if shape is None else array.reshape(tuple(shape))


def evaluate_known(
    op: str, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any], real: bool = False
) -> np.ndarray | None:
    """The result of an IR operator on known arrays; None where it cannot be told.

    Args:
        op: the operator.
        arrays: its operands.
        attributes: its attributes.
        real: whether the element type is a float, whose values here are whole numbers all the same.

    Returns:
        The array; of bool for comparisons.
    """
    rule = _REAL_RULES.get(op, _RULES.get(op)) if real else _RULES.get(op)
    result = None if rule is None else rule(arrays, attributes)
    return None if result is None or result.size > LARGEST_KNOWN else result


def decide(left: Dim, right: Dim) -> int | None:
    """The sign of left − right where it is the same for all sizes; None otherwise."""
    difference = left - right
    if isinstance(difference, int):
        return (difference > 0) - (difference < 0)
    if is_positive(difference):
        return 1
    return -1 if is_positive(-difference) else None


def is_positive(dim: Dim) -> bool:
    """Whether a dimension is at least 1 for all sizes of its symbols, which are at least 1."""
    if isinstance(dim, int):
        return dim > 0
    lowest = dim.lower_bound()
    return lowest is not None and lowest > 0


def _elementwise(function: Callable[[Dim, Dim], Any]) -> Rule:
    def rule(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
        left, right = np.broadcast_arrays(*arrays)
        items = [function(a, b) for a, b in zip(left.ravel().tolist(), right.ravel().tolist(), strict=True)]
        if any(item is None for item in items):
            return None
        result = np.empty(len(items), dtype=object)
        result[:] = items
        return result.reshape(left.shape)

    return rule


def _divide(left: Dim, right: Dim) -> Dim | None:
    if isinstance(left, int) and isinstance(right, int):
        return None if right == 0 else abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    # Truncation and floor agree on sizes, which are positive.
    if isinstance(right, int) and right <= 0:
        return None
    return floor_divide(left, right)


def _divide_exactly(left: Dim, right: Dim) -> Dim | None:
    if right == 0:
        return None
    quotient = floor_divide(left, right)
    return quotient if quotient * right == left else None


def _modulo(left: Dim, right: Dim) -> Dim | None:
    if isinstance(right, int) and right <= 0:
        return None
    return left - floor_divide(left, right) * right


def _minimum(left: Dim, right: Dim) -> Dim | None:
    sign = decide(left, right)
    return None if sign is None else left if sign <= 0 else right


def _maximum(left: Dim, right: Dim) -> Dim | None:
    sign = decide(left, right)
    return None if sign is None else left if sign >= 0 else right


def _comparison(signs: tuple[int, ...]) -> Rule:
    def compare(left: Dim, right: Dim) -> bool | None:
        sign = decide(left, right)
        return None if sign is None else sign in signs

    return _elementwise(compare)


def _gather(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
    data, indices = arrays
    if any(isinstance(index, SymbolicDim) for index in indices.ravel()):
        return None
    positions = np.array(indices.tolist(), dtype=np.int64)
    size = data.shape[attributes["axis"]]
    if positions.size and (positions.min() < -size or positions.max() >= size):
        return None
    return np.asarray(np.take(data, positions, axis=attributes["axis"]), dtype=object)


def _slice(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
    index = []
    for start, size, step in zip(attributes["starts"], attributes["sizes"], attributes["steps"], strict=True):
        if not isinstance(start, int) or not isinstance(size, int):
            return None
        index.append([start + position * step for position in range(size)])
    return arrays[0][np.ix_(*index)] if index else arrays[0]


def _where(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
    condition, left, right = np.broadcast_arrays(*arrays)
    return np.where(condition.astype(bool), left, right)


def _cast(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
    return arrays[0] if attributes["dtype"] in ("int32", "int64", "float32", "float64") else None


def _product(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
    result = np.multiply.reduce(arrays[0], axis=tuple(attributes["axes"]), keepdims=attributes.get("keepdims", True))
    return np.asarray(result, dtype=object)


def _static_shape(shape: Sequence[Dim]) -> tuple[int, ...] | None:
    static = tuple(dim for dim in shape if isinstance(dim, int))
    return static if len(static) == len(shape) else None


def _reshape(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
    shape = _static_shape(attributes["shape"])
    return None if shape is None else arrays[0].reshape(shape)


def _expand(arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray | None:
    shape = _static_shape(attributes["shape"])
    if shape is None or np.prod(shape, dtype=float) > LARGEST_KNOWN:
        return None
    return np.broadcast_to(arrays[0], shape)


_RULES: dict[str, Rule] = {
    "add": _elementwise(lambda a, b: a + b),
    "sub": _elementwise(lambda a, b: a - b),
    "mul": _elementwise(lambda a, b: a * b),
    "div": _elementwise(_divide),
    "mod": _elementwise(_modulo),
    "minimum": _elementwise(_minimum),
    "maximum": _elementwise(_maximum),
    "equal": _comparison((0,)),
    "less": _comparison((-1,)),
    "less_equal": _comparison((-1, 0)),
    "greater": _comparison((1,)),
    "greater_equal": _comparison((0, 1)),
    "neg": lambda arrays, attributes: arrays[0] * -1,
    "gather": _gather,
    "slice": _slice,
    "where": _where,
    "cast": _cast,
    "reduce_prod": _product,
    "reshape": _reshape,
    "expand": _expand,
    "concat": lambda arrays, attributes: np.concatenate(arrays, axis=attributes["axis"]),
}

_REAL_RULES: dict[str, Rule] = {
    "div": _elementwise(_divide_exactly),
    "mod": lambda arrays, attributes: None,
    "floor": lambda arrays, attributes: arrays[0],
    "ceil": lambda arrays, attributes: arrays[0],
    "round": lambda arrays, attributes: arrays[0],
}
