"""Constant right operands that stay compressed in memory: how kernels read, decode and pack them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm_ffi
from tvm import te, tirx
from tvm.ir import Call

from edgeir.schedules.analysis import uses


def decoded_element(tensor: Any, index: Sequence[Any]) -> Any:
    """An element of a tensor as one expression of placeholders: every stage that it goes through is written out.

    Args:
        tensor: a placeholder or an injective stage over others.
        index: where.
    """
    if not isinstance(tensor.op, te.ComputeOp):
        return tensor(*index)
    stage: Any = tensor.op
    places = [(axis.var, _expression(i)) for axis, i in zip(stage.axis, index, strict=True)]

    def at(variable: Any) -> Any:
        return next((place for axis, place in places if axis.same_as(variable)), variable)

    def read(call: Any) -> Any:
        if getattr(call.op, "name", "") != "te.tensor_load":
            return call
        source, *position = call.args
        return decoded_element(source, position)

    body = tvm_ffi.structural_map(stage.body[0], ((tirx.Var, at),))
    return tvm_ffi.structural_map(body, ((Call, read),))


def column_scaled(value: Any, k: Any) -> tuple[Any, Any]:
    """(x, c) where the value is x·c and c does not depend on `k`; (value, None) where it has no such form.

    A sum over k of a·(x·c) is c·Σ a·x up to rounding.
    """
    variable = _expression(k)
    if isinstance(value, tirx.Mul):
        for x, c in ((value.a, value.b), (value.b, value.a)):
            if uses(x, variable) and not uses(c, variable):
                return x, c
    return value, None


def _expression(index: Any) -> Any:
    if isinstance(index, int):
        return tirx.const(index, "int32")
    return index.var if isinstance(index, tirx.IterVar) else index


def pack_pairs(array: np.ndarray, axis: int) -> np.ndarray:
    """Two 4-bit numbers in each byte: those at even places along an axis in its low half, the next ones above.

    Args:
        array: int8 or uint8, each element a 4-bit number.
        axis: the axis that is halved; of an odd number, the last one has a byte of its own.
    """
    if array.shape[axis] % 2:
        array = np.pad(array, [(0, int(other == axis % array.ndim)) for other in range(array.ndim)])
    moved = np.moveaxis(array.view(np.uint8), axis, 0)
    low, high = moved[::2] & 15, moved[1::2] << 4
    return np.ascontiguousarray(np.moveaxis(low | high, 0, axis)).view(array.dtype)


def pair_element(packed: Any, index: Sequence[Any], axis: int, dtype: str) -> Any:
    """The element at `index` of what `pack_pairs` packed along `axis`, as `dtype` (int8 with its sign, or uint8)."""
    place = list(index)
    position = place[axis]
    place[axis] = position // 2
    byte = packed[tuple(place)].astype("int32")
    shift = position % 2 * 4
    if dtype == "int8":
        return ((byte << (28 - shift)) >> 28).astype(dtype)
    return ((byte >> shift) & 15).astype(dtype)
