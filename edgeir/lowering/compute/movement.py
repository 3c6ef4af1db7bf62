"""Operators that move elements: each element of the result is an element of an input, or a constant."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgeir.ir.types import TensorType, parse_layout
from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, constant, dtype_of, flat_index, select, unravel
from edgeir.lowering.compute.registry import Call, compute, fixed
from edgeir.lowering.compute.storage import carrier


@compute("reshape")
def reshape(call: Call) -> te.Tensor:
    """The same elements in row-major order."""
    x, before, after = call.tensor(0), call.shape(0), call.output_shape
    if 0 in after:
        return te.compute(after, lambda *_: constant(0, dtype_of(x)), name="reshape")
    return te.compute(after, lambda *i: x(*unravel(flat_index(i, after), before)), name="reshape")


@compute("transpose")
def transpose(call: Call) -> te.Tensor:
    """Axis i of the result is axis perm[i] of x."""
    x, perm = call.tensor(0), call.attributes["perm"]

    def body(*index: Any) -> Expression:
        position: list[Any] = [None] * len(perm)
        for axis, source in enumerate(perm):
            position[source] = index[axis]
        return x(*position)

    return te.compute(call.output_shape, body, name="transpose")


@compute("expand")
def expand(call: Call) -> te.Tensor:
    """x broadcast to the shape."""
    x, shape, out = call.tensor(0), call.shape(0), call.output_shape

    def body(*index: Any) -> Expression:
        tail = index[len(out) - len(shape) :]
        return x(*[0 if extent == 1 else i for i, extent in zip(tail, shape, strict=True)])

    return te.compute(out, body, name="expand")


@compute("tile")
def tile(call: Call) -> te.Tensor:
    """y[i] = x[i mod size]."""
    x, shape, out = call.tensor(0), call.shape(0), call.output_shape

    def body(*index: Any) -> Expression:
        return x(*[
            i if extent == size else tirx.floormod(i, extent)
            for i, extent, size in zip(index, shape, out, strict=True)
        ])  # fmt: skip

    return te.compute(out, body, name="tile")


@compute("slice")
def slice_(call: Call) -> te.Tensor:
    """y[i] = x[starts + i·steps]."""
    x, starts, steps = call.tensor(0), call.integers("starts"), call.integers("steps")
    return te.compute(
        call.output_shape,
        lambda *index: x(*[start + i * step for i, start, step in zip(index, starts, steps, strict=True)]),
        name="slice",
    )


@compute("concat")
def concat(call: Call) -> te.Tensor:
    """The inputs one after the other along the axis."""
    axis = int(call.attributes["axis"])
    parts = [(call.tensor(i), call.shape(i)[axis]) for i in range(len(call.types)) if call.shape(i)[axis] > 0]
    if len(parts) <= 1:
        single = parts[0][0] if parts else None
        return te.compute(
            call.output_shape,
            (lambda *index: single(*index)) if single is not None else (lambda *_: constant(0, carrier(call.dtype))),
            name="concat",
        )

    def body(*index: Any) -> Expression:
        ends, total = [], 0
        for _, size in parts:
            ends.append((total, total + size))
            total += size
        result: Expression = None
        for (tensor, _), (begin, end) in zip(reversed(parts), reversed(ends), strict=True):
            position = list(index)
            position[axis] = index[axis] - begin
            value = tensor(*position)
            result = value if result is None else tirx.if_then_else(index[axis] < end, value, result)
        return result

    return te.compute(call.output_shape, body, name="concat")


@compute("pad")
def pad(call: Call) -> te.Tensor:
    """A border of a value, of the edge, mirrored, or periodic."""
    x, shape, mode = call.tensor(0), call.shape(0), call.attributes["mode"]
    rank = len(shape)
    begins = call.attributes["padding"][:rank]
    out = call.output_shape
    fill = constant(0, call.dtype)
    value = call.tensor(1) if call.has(1) else None

    def border(position: Expression, size: int) -> Expression:
        if mode == "edge":
            return tirx.max(tirx.min(position, size - 1), 0)
        if mode == "wrap":
            return tirx.floormod(position, size)
        if size == 1:
            return tirx.const(0, "int32")
        period = 2 * (size - 1)
        folded = tirx.floormod(position, period)
        return tirx.min(folded, period - folded)

    def body(*index: Any) -> Expression:
        position, inside = [], []
        for i, begin, size, extent in zip(index, begins, shape, out, strict=True):
            shifted = i - begin if begin else i
            if extent == size:
                position.append(shifted)
            elif mode == "constant":
                inside += [shifted >= 0] if begin else []
                inside += [shifted < size] if extent > size + begin else []
                position.append(shifted)
            else:
                position.append(border(shifted, size))
        if not inside:
            return x(*position)
        outer = fill if value is None else value(*[0] * len(value.shape))
        return tirx.if_then_else(tirx.all(*inside), x(*position), outer)

    if 0 in shape:
        return te.compute(out, lambda *_: fill if value is None else value(*[0] * len(value.shape)), name="pad")
    return te.compute(out, body, name="pad")


@compute("trilu")
def trilu(call: Call) -> te.Tensor:
    """A triangle of the last two axes, zero elsewhere."""
    x, k, upper = call.tensor(0), int(call.attributes["k"]), bool(call.attributes["upper"])
    k = max(-(2**30), min(2**30, k))
    zero = constant(0, call.dtype)

    def body(*index: Any) -> Expression:
        offset = index[-1] - index[-2]
        keep = offset >= k if upper else offset <= k
        if dtype_of(x) == "bool":
            return tirx.all(keep, x(*index))
        return select(keep, x(*index), zero)

    return te.compute(call.output_shape, body, name="trilu")


def blocked(type: TensorType) -> tuple[int, int] | None:
    """The blocked axis and the block size of a layout; None where the physical shape is the logical one."""
    if not type.layout or len(type.physical_shape()) == type.rank:
        return None
    _, axis, block = parse_layout(type.layout)
    return axis, block


def at_logical(x: te.Tensor, type: TensorType, index: Any) -> Expression:
    """The element of a tensor at a logical index."""
    layout = blocked(type)
    if layout is None:
        return x(*index)
    axis, block = layout
    position = list(index)
    lane = tirx.floormod(position[axis], block)
    position[axis] = tirx.floordiv(position[axis], block)
    return x(*position, lane)


@compute("layout_cast")
def layout_cast(call: Call) -> te.Tensor:
    """The same tensor in another layout; lanes that hold no element are 0."""
    x, source, target = call.tensor(0), call.type(0), call.outputs[0]
    layout = blocked(target)

    def body(*index: Any) -> Expression:
        if layout is None:
            return at_logical(x, source, index)
        axis, block = layout
        *logical, lane = index
        logical[axis] = logical[axis] * block + lane
        size = fixed(target.shape[axis], str(target))
        if size % block == 0:
            return at_logical(x, source, logical)
        return tirx.if_then_else(logical[axis] < size, at_logical(x, source, logical), constant(0, dtype_of(x)))

    return te.compute(call.output_shape, body, name="layout_cast")
