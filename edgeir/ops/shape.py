"""Operators that change shape or order: every output element is an input element, a constant or an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.dims import Dim, product
from edgeir.ir.dtype import FLOATS, INTEGERS, numpy_dtype
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType, parse_layout
from edgeir.ops.operands import (
    check_axis,
    check_dtype,
    check_length,
    check_rank,
    check_same_dtype,
    optional,
    present,
    static_dims,
)

Types = Sequence[TensorType | None]
Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


def _text(dims: Sequence[Dim]) -> str:
    return f"[{', '.join(map(str, dims))}]"


def _check_dims(op: str, name: str, dims: Sequence[Dim]) -> None:
    if any(isinstance(dim, int) and dim < 0 for dim in dims):
        raise TypeInferenceError(f"{op}: {name} holds a negative size", expected="sizes of at least 0", got=_text(dims))


@register
class Reshape(Op):
    """The same elements, in row-major order, in another shape."""

    name = "reshape"
    operands = ("x",)
    attributes: ClassVar = {"shape": Attribute(Kind.DIMS)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` of any shape → `shape`, with provably as many elements."""
        x, shape = present(inputs, 0), attributes["shape"]
        _check_dims("reshape", "shape", shape)
        before, after = x.elements, product(shape)
        if before != after:
            static = isinstance(before, int) and isinstance(after, int)
            raise TypeInferenceError(
                "reshape changes the number of elements" if static else "reshape may change the number of elements",
                expected=f"{before} elements, as in {x}",
                got=f"{after} elements in {_text(shape)}",
                hint=None if static else "write the new shape in terms of the symbols of the old one",
            )
        return [TensorType(x.dtype, shape)]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """`numpy.reshape`."""
        return [present(inputs, 0).reshape(static_dims("shape", attributes["shape"]))]


@register
class Expand(Op):
    """`x` broadcast to exactly `shape` (numpy rules: axes of size 1 repeat, missing leading axes are added)."""

    name = "expand"
    operands = ("x",)
    attributes: ClassVar = {"shape": Attribute(Kind.DIMS)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` that broadcasts to `shape` → `shape`."""
        x, shape = present(inputs, 0), attributes["shape"]
        _check_dims("expand", "shape", shape)
        tail = shape[len(shape) - x.rank :] if x.rank <= len(shape) else None
        if tail is None or any(a not in (1, b) for a, b in zip(x.shape, tail, strict=True)):
            raise TypeInferenceError("expand: input does not broadcast to the shape", expected=_text(shape), got=x)
        return [TensorType(x.dtype, shape)]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """`numpy.broadcast_to`, copied."""
        return [np.broadcast_to(present(inputs, 0), static_dims("shape", attributes["shape"])).copy()]


@register
class Tile(Op):
    """`x` repeated along every axis: y[i] = x[i mod size of x]."""

    name = "tile"
    operands = ("x",)
    attributes: ClassVar = {"repeats": Attribute(Kind.DIMS)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` → each dimension times its repeat."""
        x, repeats = present(inputs, 0), attributes["repeats"]
        check_length("repeats", repeats, x.rank)
        _check_dims("tile", "repeats", repeats)
        return [TensorType(x.dtype, tuple(dim * count for dim, count in zip(x.shape, repeats, strict=True)))]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """`numpy.tile`."""
        return [np.tile(present(inputs, 0), static_dims("repeats", attributes["repeats"]))]


@register
class Transpose(Op):
    """Axes in another order: axis i of the output is axis perm[i] of `x`."""

    name = "transpose"
    operands = ("x",)
    attributes: ClassVar = {"perm": Attribute(Kind.INTS)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` → its dimensions permuted."""
        x, perm = present(inputs, 0), attributes["perm"]
        if sorted(perm) != list(range(x.rank)):
            raise TypeInferenceError(
                "transpose: perm is not a permutation of the axes", expected=f"0 … {x.rank - 1} in some order", got=perm
            )
        return [TensorType(x.dtype, tuple(x.shape[axis] for axis in perm))]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """`numpy.transpose`, in row-major order."""
        return [present(inputs, 0).transpose(attributes["perm"]).copy()]


@register
class Slice(Op):
    """A strided box: y[i] = x[starts + i·steps], of shape `sizes`; one entry per axis, steps may be negative."""

    name = "slice"
    operands = ("x",)
    attributes: ClassVar = {
        "starts": Attribute(Kind.DIMS),
        "sizes": Attribute(Kind.DIMS),
        "steps": Attribute(Kind.INTS),
    }
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` → `sizes`; what is known of the box must lie inside `x`."""
        x = present(inputs, 0)
        for name in self.attributes:
            check_length(name, attributes[name], x.rank)
        _check_dims("slice", "sizes", attributes["sizes"])
        box = zip(x.shape, attributes["starts"], attributes["sizes"], attributes["steps"], strict=True)
        for axis, (dim, start, size, step) in enumerate(box):
            if step == 0:
                raise TypeInferenceError(
                    "slice: a step is zero", where=f"axis {axis}", expected="a nonzero step", got=0
                )
            if size == 0:
                continue
            ends = (start, start + (size - 1) * step)
            # A difference that is an integer settles the comparison even between symbolic dimensions.
            margins = [*ends, *(dim - 1 - end for end in ends)]
            if any(isinstance(margin, int) and margin < 0 for margin in margins):
                raise TypeInferenceError(
                    "slice reaches outside its input",
                    where=f"axis {axis}",
                    expected=f"indices 0 to {dim - 1} of {x}",
                    got=f"{ends[0]} to {ends[1]} (start {start}, size {size}, step {step})",
                )
        return [TensorType(x.dtype, attributes["sizes"])]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """One index vector per axis."""
        x = present(inputs, 0)
        starts = static_dims("starts", attributes["starts"])
        sizes = static_dims("sizes", attributes["sizes"])
        if not x.ndim:
            return [x.copy()]
        box = zip(starts, sizes, attributes["steps"], strict=True)
        return [x[np.ix_(*(start + np.arange(size) * step for start, size, step in box))]]


@register
class Concat(Op):
    """The inputs one after the other along `axis`."""

    name = "concat"
    operands = ("inputs*",)
    attributes: ClassVar = {"axis": Attribute(Kind.INT)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """Inputs that agree except on `axis` → that axis summed."""
        types = [present(inputs, position) for position in range(len(inputs))]
        if not types:
            raise TypeInferenceError("concat needs an input", expected="at least one input", got="none")
        axis, first = attributes["axis"], types[0]
        check_axis(axis, first)
        check_same_dtype(*types)
        for t in types[1:]:
            same = t.rank == first.rank and all(
                a == b for i, (a, b) in enumerate(zip(t.shape, first.shape, strict=True)) if i != axis
            )
            if not same:
                raise TypeInferenceError(
                    f"concat: inputs differ outside axis {axis}", expected=f"a shape like {first}", got=t
                )
        total = sum((t.shape[axis] for t in types[1:]), start=first.shape[axis])
        return [TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """`numpy.concatenate`."""
        return [np.concatenate([present(inputs, i) for i in range(len(inputs))], axis=attributes["axis"])]

    def layout(self, inputs: Types, outputs: Sequence[TensorType], attributes: Attributes) -> list[str]:
        """Keeps a shared layout; along the blocked axis only where every input fills its blocks."""
        types = [t for t in inputs if t is not None]
        layouts = {t.layout for t in types}
        if len(layouts) != 1:
            raise EdgeIRError("concat: inputs have different layouts", got=", ".join(map(str, types)))
        layout = layouts.pop()
        if layout:
            _, axis, block = parse_layout(layout)
            if block > 1 and axis == attributes["axis"]:
                for t in types:
                    dim = t.shape[axis]
                    if not isinstance(dim, int) or dim % block:
                        raise EdgeIRError(
                            "concat along a blocked axis needs full blocks", expected=f"a multiple of {block}", got=t
                        )
        return [layout]


@register
class Pad(Op):
    """`x` with a border: all begins, then all ends. `value` (a scalar, 0 if absent) fills the constant mode.

    Modes: `edge` repeats the border element; `reflect` mirrors about it, with period 2·(size − 1); `wrap` is periodic.
    """

    name = "pad"
    operands = ("x", "value?")
    attributes: ClassVar = {
        "padding": Attribute(Kind.INTS),
        "mode": Attribute(Kind.STR, "constant", ("constant", "edge", "reflect", "wrap")),
    }
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` → each dimension plus its two borders."""
        x, value, padding = present(inputs, 0), optional(inputs, 1), attributes["padding"]
        check_length("padding", padding, 2 * x.rank)
        if any(amount < 0 for amount in padding):
            raise TypeInferenceError(
                "pad: negative padding", expected="amounts of at least 0", got=padding, hint="use slice to crop"
            )
        if value is not None:
            check_same_dtype(x, value)
            if attributes["mode"] != "constant" or value.elements != 1 or value.rank > 1:
                raise TypeInferenceError(
                    "pad: unusable fill value",
                    expected="a scalar, in constant mode",
                    got=f"{value}, {attributes['mode']}",
                )
        begins, ends = padding[: x.rank], padding[x.rank :]
        for axis, (dim, begin, end) in enumerate(zip(x.shape, begins, ends, strict=True)):
            if dim == 0 and begin + end and attributes["mode"] != "constant":
                raise TypeInferenceError(
                    f"pad: nothing to repeat in mode {attributes['mode']}", where=f"axis {axis}", got=x
                )
        shape = tuple(dim + begin + end for dim, begin, end in zip(x.shape, begins, ends, strict=True))
        return [TensorType(x.dtype, shape)]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """A filled box, or one index vector per axis."""
        x, value, padding = present(inputs, 0), optional(inputs, 1), attributes["padding"]
        begins, ends = padding[: x.ndim], padding[x.ndim :]
        if attributes["mode"] == "constant":
            shape = tuple(n + begin + end for n, begin, end in zip(x.shape, begins, ends, strict=True))
            y = np.zeros(shape, x.dtype)
            if value is not None:
                y[...] = value.reshape(())
            y[tuple(slice(begin, begin + n) for n, begin in zip(x.shape, begins, strict=True))] = x
            return [y]
        for axis, (n, begin, end) in enumerate(zip(x.shape, begins, ends, strict=True)):
            if begin + end:
                x = np.take(x, border_indices(np.arange(-begin, n + end), n, attributes["mode"]), axis=axis)
        return [x]


def border_indices(positions: np.ndarray, size: int, mode: str) -> np.ndarray:
    """Positions on an endless axis as indices in [0, size): modes `edge`, `reflect`, `wrap` of pad."""
    if mode == "edge":
        return np.clip(positions, 0, size - 1)
    if mode == "wrap":
        return positions % size
    if size == 1:
        return np.zeros_like(positions)
    folded = positions % (2 * (size - 1))
    return np.minimum(folded, 2 * (size - 1) - folded)


@register
class Trilu(Op):
    """A triangle of the last two axes, zero elsewhere: kept where column − row ≥ k (upper) or ≤ k (lower)."""

    name = "trilu"
    operands = ("x",)
    attributes: ClassVar = {"upper": Attribute(Kind.BOOL, True), "k": Attribute(Kind.INT, 0)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """`x` (…, rows, columns) → the same type."""
        x = present(inputs, 0)
        check_rank("x", x, 2)
        return [x]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """A mask of column − row."""
        x = present(inputs, 0)
        offset = np.arange(x.shape[-1])[None, :] - np.arange(x.shape[-2])[:, None]
        keep = offset >= attributes["k"] if attributes["upper"] else offset <= attributes["k"]
        return [np.where(keep, x, np.zeros((), x.dtype))]


@register
class Iota(Op):
    """0, 1, …, size − 1."""

    name = "iota"
    operands = ()
    attributes: ClassVar = {"size": Attribute(Kind.DIM), "dtype": Attribute(Kind.DTYPE, "int64")}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """→ (size), of `dtype`."""
        _check_dims("iota", "size", [attributes["size"]])
        result = TensorType(attributes["dtype"], (attributes["size"],))
        check_dtype("the result", result, INTEGERS | FLOATS)
        return [result]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """`numpy.arange`."""
        (size,) = static_dims("size", [attributes["size"]])
        return [np.arange(size).astype(numpy_dtype(attributes["dtype"]))]


@register
class Dims(Op):
    """Dimensions as data: an int64 vector of `values`, a constant once they are fixed."""

    name = "dims"
    operands = ()
    attributes: ClassVar = {"values": Attribute(Kind.DIMS)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """→ int64 (number of values)."""
        return [TensorType("int64", (len(attributes["values"]),))]

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """The values."""
        return [np.array(static_dims("values", attributes["values"]), dtype=np.int64)]
