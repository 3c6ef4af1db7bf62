"""Reductions over axes, indices of extrema, and running sums and products."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType, parse_layout
from edgeir.ops.operands import NUMERIC, check_axis, check_dtype, highest, lowest, present, widen


class Reduce(Op):
    """Reduces `axes` (in ascending order) of x to one element each; `keepdims` keeps them with size 1.

    The result has x's dtype; float16 and bfloat16 are accumulated in float32. A blocked layout is kept where the
    blocked axis is not reduced and all dimensions stay.
    """

    operands = ("x",)
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "axes": Attribute(Kind.INTS),
        "keepdims": Attribute(Kind.BOOL, True),
    }
    pattern = Pattern.REDUCTION
    function: ClassVar[Callable[[np.ndarray, tuple[int, ...], bool], np.ndarray]]
    dtypes: ClassVar[Collection[str]] = NUMERIC

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """x's dtype, with the axes of size 1 or gone."""
        x, axes = present(inputs, 0), attributes["axes"]
        check_dtype("x", x, self.dtypes)
        if not axes or list(axes) != sorted(set(axes)):
            raise TypeInferenceError(
                "axes are wrong", expected="at least one axis, ascending, each once", got=list(axes)
            )
        for axis in axes:
            check_axis(axis, x, "axes")
        return [_reduced(x, axes, attributes["keepdims"], x.dtype)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy's reduction."""
        x = present(inputs, 0)
        return [np.asarray(type(self).function(widen(x), attributes["axes"], attributes["keepdims"])).astype(x.dtype)]

    def layout(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Sequence[str]:
        """x's where the result can have it."""
        layout = present(inputs, 0).layout
        if layout and attributes["keepdims"]:
            _, axis, block = parse_layout(layout)
            if block > 1 and axis not in attributes["axes"]:
                return [layout]
        return super().layout(inputs, outputs, attributes)


def _reduced(x: TensorType, axes: Collection[int], keepdims: bool, dtype: str) -> TensorType:
    dims = [1 if axis in axes else dim for axis, dim in enumerate(x.shape) if keepdims or axis not in axes]
    return TensorType(dtype, tuple(dims))


def _sum(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    return x.sum(axis=axes, keepdims=keepdims, dtype=x.dtype)


def _mean(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    if x.dtype.kind == "f":
        return x.mean(axis=axes, keepdims=keepdims)
    count = max(1, int(np.prod([x.shape[axis] for axis in axes])))
    total = x.sum(axis=axes, keepdims=keepdims, dtype=np.uint64 if x.dtype.kind == "u" else np.int64)
    return total // count + ((total < 0) & (total % count != 0))


def _max(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    return x.max(axis=axes, keepdims=keepdims, initial=False if x.dtype.kind == "b" else lowest(x.dtype))


def _min(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    return x.min(axis=axes, keepdims=keepdims, initial=True if x.dtype.kind == "b" else highest(x.dtype))


def _product(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    return x.prod(axis=axes, keepdims=keepdims, dtype=x.dtype)


for _name, _function, _dtypes, _doc in (
    ("reduce_sum", _sum, NUMERIC, "Sum; 0 of no elements."),
    ("reduce_mean", _mean, NUMERIC, "Arithmetic mean; of integers truncated towards zero."),
    ("reduce_max", _max, NUMERIC | {"bool"}, "Maximum; −∞ or the least integer of no elements."),
    ("reduce_min", _min, NUMERIC | {"bool"}, "Minimum; +∞ or the greatest integer of no elements."),
    ("reduce_prod", _product, NUMERIC, "Product; 1 of no elements."),
):
    _members = {"name": _name, "function": staticmethod(_function), "dtypes": _dtypes, "__doc__": _doc}
    _cls: type = type(_name.title().replace("_", ""), (Reduce,), _members)
    register(_cls)


class _ArgExtremum(Op):
    operands = ("x",)
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "axis": Attribute(Kind.INT),
        "keepdims": Attribute(Kind.BOOL, True),
        "select_last": Attribute(Kind.BOOL, False),
    }
    pattern = Pattern.REDUCTION
    function: ClassVar[Callable[..., Any]]

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """int64, with the axis of size 1 or gone."""
        x, axis = present(inputs, 0), attributes["axis"]
        check_dtype("x", x, NUMERIC)
        check_axis(axis, x)
        if x.shape[axis] == 0:
            raise TypeInferenceError(f"{self.name} of no elements", expected=f"axis {axis} not empty", got=str(x))
        return [_reduced(x, (axis,), attributes["keepdims"], "int64")]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy's, on the reversed axis for the last one."""
        x, axis = widen(present(inputs, 0)), attributes["axis"]
        ordered = np.flip(x, axis) if attributes["select_last"] else x
        found = type(self).function(ordered, axis=axis, keepdims=attributes["keepdims"])
        if attributes["select_last"]:
            found = x.shape[axis] - 1 - found
        return [np.asarray(found, dtype=np.int64)]


@register
class ArgMax(_ArgExtremum):
    """Index of the greatest element along an axis: the first one, or the last with `select_last`."""

    name = "arg_max"
    function = staticmethod(np.argmax)


@register
class ArgMin(_ArgExtremum):
    """Index of the least element along an axis: the first one, or the last with `select_last`."""

    name = "arg_min"
    function = staticmethod(np.argmin)


class _Cumulative(Op):
    operands = ("x",)
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "axis": Attribute(Kind.INT),
        "exclusive": Attribute(Kind.BOOL, False),
        "reverse": Attribute(Kind.BOOL, False),
    }
    pattern = Pattern.OPAQUE
    function: ClassVar[Callable[..., np.ndarray]]
    start: ClassVar[int]

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """x's type."""
        x = present(inputs, 0)
        check_dtype("x", x, NUMERIC)
        check_axis(attributes["axis"], x)
        return [x]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy's cumulative function, on the reversed axis, and moved by one, as asked."""
        x, axis = present(inputs, 0), attributes["axis"]
        wide = np.flip(widen(x), axis) if attributes["reverse"] else widen(x)
        if attributes["exclusive"]:
            head = np.full_like(np.take(wide, [0][: x.shape[axis]], axis=axis), self.start)
            wide = np.concatenate([head, np.take(wide, range(x.shape[axis] - 1), axis=axis)], axis=axis)
        y = type(self).function(wide, axis=axis, dtype=wide.dtype)
        return [(np.flip(y, axis) if attributes["reverse"] else y).astype(x.dtype)]


@register
class CumSum(_Cumulative):
    """Sum of the elements up to and with (`exclusive`: before) each one along an axis; `reverse` from the end."""

    name = "cum_sum"
    function = staticmethod(np.cumsum)
    start = 0


@register
class CumProd(_Cumulative):
    """Product of the elements up to and with (`exclusive`: before) each one along an axis; `reverse` from the end."""

    name = "cum_prod"
    function = staticmethod(np.cumprod)
    start = 1
