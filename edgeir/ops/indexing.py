"""Operators that read or write elements at computed positions, as ONNX defines them.

Indices are int32 or int64 and may be negative, counting from the end; evaluation raises EdgeIRError where one is out
of range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.dims import Dim
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import check_axis, check_dtype, check_rank, check_same_dtype, check_shape, present, static_dims

Types = Sequence[TensorType | None]
Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]

INDEX_DTYPES = ("int32", "int64")
_REDUCTION = Attribute(Kind.STR, "none", ("none", "add", "mul", "max", "min"))
_REDUCTIONS: dict[str, np.ufunc] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _exceeds(dim: Dim, limit: Dim) -> bool:
    """Whether `dim` is known to be greater than `limit`."""
    difference = limit - dim
    return isinstance(difference, int) and difference < 0


def _positions(op: str, indices: np.ndarray, size: int) -> np.ndarray:
    """Indices in [−size, size) as int64 in [0, size)."""
    positions = indices.astype(np.int64)
    if positions.size and (positions.min() < -size or positions.max() >= size):
        raise EdgeIRError(
            f"{op}: index out of range",
            expected=f"{-size} ≤ index < {size}",
            got=f"{positions.min()} to {positions.max()}",
        )
    return np.where(positions < 0, positions + size, positions)


def _element_positions(op: str, indices: np.ndarray, shape: tuple[int, ...], axis: int) -> tuple[np.ndarray, ...]:
    """For every index its full position: its own along `axis`, where it stands along the other axes."""
    position: list[np.ndarray] = list(np.indices(indices.shape, sparse=True))
    position[axis] = _positions(op, indices, shape[axis])
    return tuple(position)


def _tuple_positions(op: str, indices: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """The last axis of `indices` split into one array of positions per leading axis of `shape`."""
    return tuple(_positions(op, indices[..., i], shape[i]) for i in range(indices.shape[-1]))


def _scatter(x: np.ndarray, position: Any, updates: np.ndarray, reduction: str) -> np.ndarray:
    y = x.copy()
    if reduction == "none":
        y[position] = updates
    else:
        _REDUCTIONS[reduction].at(y, position, updates)
    return y


@register
class Gather(Op):
    """Slices of `x` along `axis`, one per index: y[…, i, …] = x[…, indices[i], …]."""

    name = "gather"
    operands = ("x", "indices")
    attributes: ClassVar = {"axis": Attribute(Kind.INT)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` and indices of any shape → `x` with the shape of the indices in place of `axis`."""
        x, indices, axis = present(inputs, 0), present(inputs, 1), attributes["axis"]
        check_axis(axis, x)
        check_dtype("indices", indices, INDEX_DTYPES)
        return [TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """`numpy.take`."""
        x, axis = present(inputs, 0), attributes["axis"]
        return [np.take(x, _positions("gather", present(inputs, 1), x.shape[axis]), axis=axis)]


@register
class GatherElements(Op):
    """Elements of `x` along `axis`: y[i, j] = x[indices[i, j], j] for axis 0."""

    name = "gather_elements"
    operands = ("x", "indices")
    attributes: ClassVar = {"axis": Attribute(Kind.INT)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` and indices of its rank, no larger outside `axis` → the shape of the indices."""
        x, indices = present(inputs, 0), present(inputs, 1)
        _check_elements("gather_elements", x, indices, attributes["axis"])
        return [TensorType(x.dtype, indices.shape)]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """One advanced index."""
        x, indices = present(inputs, 0), present(inputs, 1)
        return [x[_element_positions("gather_elements", indices, x.shape, attributes["axis"])]]


def _check_elements(op: str, x: TensorType, indices: TensorType, axis: int) -> None:
    check_axis(axis, x)
    check_dtype("indices", indices, INDEX_DTYPES)
    check_rank("indices", indices, x.rank, x.rank)
    pairs = zip(indices.shape, x.shape, strict=True)
    if any(i != axis and _exceeds(dim, limit) for i, (dim, limit) in enumerate(pairs)):
        raise TypeInferenceError(
            f"{op}: indices reach outside the input",
            expected=f"at most the dimensions of {x} outside axis {axis}",
            got=indices,
        )


@register
class GatherND(Op):
    """Slices of `x` at index tuples, the last axis of `indices`; the first `batch_dims` axes go in step."""

    name = "gather_nd"
    operands = ("x", "indices")
    attributes: ClassVar = {"batch_dims": Attribute(Kind.INT, 0)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` and indices (*batch, …, k) → (*batch, …, *the axes of x after the batch and k more)."""
        x, indices, batch = present(inputs, 0), present(inputs, 1), attributes["batch_dims"]
        check_rank("indices", indices, 1)
        if not 0 <= batch < min(x.rank, indices.rank) or x.shape[:batch] != indices.shape[:batch]:
            raise TypeInferenceError(
                "gather_nd: unusable batch_dims",
                expected="equal leading axes, fewer than either rank",
                got=f"{batch}: {x}, {indices}",
            )
        depth = _tuple_length("gather_nd", indices, x.rank - batch)
        return [TensorType(x.dtype, (*indices.shape[:-1], *x.shape[batch + depth :]))]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """Batch axes indexed by themselves."""
        x, indices, batch = present(inputs, 0), present(inputs, 1), attributes["batch_dims"]
        position = _tuple_positions("gather_nd", indices, x.shape[batch:])
        steps = np.indices(indices.shape[:-1], sparse=True)[:batch]
        return [np.array(x[(*steps, *position)])]


def _tuple_length(op: str, indices: TensorType, most: int) -> int:
    check_dtype("indices", indices, INDEX_DTYPES)
    check_rank("indices", indices, 1)
    length = indices.shape[-1]
    if not isinstance(length, int) or not 1 <= length <= most:
        raise TypeInferenceError(f"{op}: unusable index tuples", expected=f"a last axis of 1 to {most}", got=indices)
    return length


@register
class ScatterElements(Op):
    """`x` with y[indices[i, j], j] = updates[i, j] (axis 0), or combined with what is there.

    Which of several updates of one element wins is unspecified without a reduction.
    """

    name = "scatter_elements"
    operands = ("x", "indices", "updates")
    attributes: ClassVar = {"axis": Attribute(Kind.INT), "reduction": _REDUCTION}

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x`, indices and updates of one shape → the type of `x`."""
        x, indices, updates = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        _check_elements("scatter_elements", x, indices, attributes["axis"])
        check_same_dtype(x, updates)
        check_shape("updates", updates, indices.shape)
        return [x]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """Updates in row-major order."""
        x, indices, updates = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        position = _element_positions("scatter_elements", indices, x.shape, attributes["axis"])
        return [_scatter(x, position, updates, attributes["reduction"])]


@register
class ScatterND(Op):
    """`x` with the slices at index tuples (the last axis of `indices`) replaced by `updates`, or combined with them."""

    name = "scatter_nd"
    operands = ("x", "indices", "updates")
    attributes: ClassVar = {"reduction": _REDUCTION}

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x`, indices (…, k), updates (…, *the axes of x after k) → the type of `x`."""
        x, indices, updates = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        depth = _tuple_length("scatter_nd", indices, x.rank)
        check_same_dtype(x, updates)
        check_shape("updates", updates, (*indices.shape[:-1], *x.shape[depth:]))
        return [x]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """Updates in row-major order."""
        x, indices, updates = present(inputs, 0), present(inputs, 1), present(inputs, 2)
        return [_scatter(x, _tuple_positions("scatter_nd", indices, x.shape), updates, attributes["reduction"])]


@register
class TopK(Op):
    """The k largest (or smallest) elements along `axis`, in order, and their int64 indices.

    Equal elements keep their order; NaN counts as greater than every number. `sorted=false` leaves the order open to
    an implementation; the reference sorts all the same.
    """

    name = "top_k"
    operands = ("x",)
    attributes: ClassVar = {
        "k": Attribute(Kind.DIM),
        "axis": Attribute(Kind.INT),
        "largest": Attribute(Kind.BOOL, True),
        "sorted": Attribute(Kind.BOOL, True),
    }
    results = 2

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` → values and indices, of size k along `axis`."""
        x, k, axis = present(inputs, 0), attributes["k"], attributes["axis"]
        check_axis(axis, x)
        if _exceeds(k, x.shape[axis]) or _exceeds(0, k):
            raise TypeInferenceError("top_k: unusable k", expected=f"0 ≤ k ≤ {x.shape[axis]}", got=k)
        shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
        return [TensorType(x.dtype, shape), TensorType("int64", shape)]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """A stable sort, from the back for the largest."""
        x, axis = present(inputs, 0), attributes["axis"]
        (k,) = static_dims("k", [attributes["k"]])
        keys = x.astype(np.float32) if x.dtype.kind == "V" else x  # ml_dtypes: float32 holds them exactly
        if attributes["largest"]:
            order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(keys, axis), axis=axis, kind="stable"), axis)
        else:
            order = np.argsort(keys, axis=axis, kind="stable")
        order = np.take(order, np.arange(k), axis=axis)
        return [np.take_along_axis(x, order, axis), order.astype(np.int64)]
