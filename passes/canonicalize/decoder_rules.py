"""Compressed constants in one form, and operators that move elements before the decoding, on the constant.

cast(w)·c → dequantize(w, c);  (cast(w) − z)·c → dequantize(w, c, z);
dequantize(w, s, z) → dequantize(w − z, s) where w − z fits 8 bits;
transpose(dequantize(w, s)) → dequantize(transpose(w), transpose(s)); slices, reshapes and gathers likewise.
"""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.ops.operands import integer_range
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, constant, op

NARROW = ("int8", "uint8", "int4", "uint4")
"""Element types of compressed constants."""


def _is_narrow(array: np.ndarray) -> bool:
    return array.dtype.name in NARROW


class DequantizeForm(RewriteRule):
    """cast(w)·c → dequantize(w, c)."""

    name = "dequantize-form"
    pattern = op("mul", op("cast", constant("w", where=_is_narrow), name="cast"), constant("c"))

    def check(self, match: Match) -> str | None:
        """The factor must not broadcast the weights; the same roundings."""
        if match["cast"].type != match.root.output.type:
            return "the factor broadcasts the constant"
        return None if match["cast"].type.dtype == "float32" else "the arithmetic is not float32"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Makes the factor a scale."""
        rewriter.replace(rewriter.add("dequantize", match["w"], match["c"]))


class DequantizeFormWithZero(RewriteRule):
    """(cast(w) − z)·c → dequantize(w, c, z)."""

    name = "dequantize-form-with-zero"
    pattern = op(
        "mul",
        op("sub", op("cast", constant("w", where=_is_narrow), name="cast"), constant("z"), name="centered"),
        constant("c"),
    )

    def check(self, match: Match) -> str | None:
        """The zero point must be of the weights' type."""
        centered = match.node("centered")
        if not (match["cast"].type == match["centered"].type == match.root.output.type):
            return "a constant broadcasts the weights"
        if centered.output.type.dtype != "float32" or centered.input(0) is not match["cast"]:
            return "the arithmetic is not float32"
        zero, (low, high) = match.array("z"), integer_range(match["w"].type.dtype)
        whole = bool((zero == np.rint(zero)).all()) and low <= zero.min() and zero.max() <= high
        return None if zero.size and whole else "the zero point is none of the weights' type"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Makes the constants scale and zero point."""
        zero = match.array("z").astype(numpy_dtype(match["w"].type.dtype))
        rewriter.replace(rewriter.add("dequantize", match["w"], match["c"], rewriter.constant(zero, match["z"].name)))


class CenterWeights(RewriteRule):
    """dequantize(w, s, z) → dequantize(w − z, s)."""

    name = "center-weights"
    pattern = op("dequantize", constant("w"), anything("scale"), constant("zero"))

    def check(self, match: Match) -> str | None:
        """The differences must fit the weights' width."""
        w, zero = match.array("w"), match.array("zero")
        if np.broadcast_shapes(w.shape, zero.shape) != w.shape:
            return "the zero point broadcasts the constant"
        return None if _centered(w, zero) is not None else "the differences need more bits"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Subtracts."""
        w, zero = match.array("w"), match.array("zero")
        value = match["w"]
        if zero.any():
            centered = _centered(w, zero)
            assert centered is not None
            value = rewriter.constant(centered, value.name)
        rewriter.replace(rewriter.add("dequantize", value, match["scale"]))


def _centered(w: np.ndarray, zero: np.ndarray) -> np.ndarray | None:
    if not zero.astype(np.int64).any():
        return w
    if w.dtype.name not in NARROW:
        return None
    difference = w.astype(np.int64) - zero.astype(np.int64)
    dtype = "int8" if w.dtype.name in ("int8", "uint8") else "int4"
    low, high = integer_range(dtype)
    fits = difference.size == 0 or (low <= difference.min() and difference.max() <= high)
    return difference.astype(numpy_dtype(dtype)) if fits else None


class CenterIntegerWeights(RewriteRule):
    """conv_integer(x, w, b, x_zero, w_zero) → conv_integer(x, w − w_zero, b, x_zero); matmul_integer likewise.

    Zero points that are 0 go, too.
    """

    name = "center-integer-weights"
    pattern = op(("conv_integer", "matmul_integer"), where=lambda node: len(node.inputs) > _ZEROS[node.op][0])

    def check(self, match: Match) -> str | None:
        """Something must be left to do."""
        found = _center(match.root)
        return None if found is not None else "the zero points stay"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Subtracts."""
        found = _center(match.root)
        assert found is not None
        weights, inputs = found
        if weights is not None:
            inputs[1] = rewriter.constant(weights, match.root.input(1).name)
        rewriter.replace(rewriter.add(match.root.op, *inputs, **match.root.attributes))


_ZEROS = {"conv_integer": (3, 4), "matmul_integer": (2, 3)}


def _center(node: Node) -> tuple[np.ndarray | None, list[Value | None]] | None:
    """New weights (None: the old ones) and operands without zero points that are not needed; None if all are."""
    inputs, weights = list(node.inputs), None
    left, right = _ZEROS[node.op]
    for position in (left, right):
        zero = inputs[position] if position < len(inputs) else None
        if zero is None or not zero.is_constant:
            continue
        if not zero.data.any():
            inputs[position] = None
        elif position == right and node.input(1).is_constant:
            w, shape = node.input(1).data, zero.data.reshape(-1)
            if zero.data.size > 1 and node.op == "conv_integer":
                shape = shape.reshape(-1, *(1,) * (w.ndim - 1))
            elif zero.data.size > 1 and node.attributes["transpose_b"]:
                shape = shape[:, None]
            weights = _centered(w, shape if zero.data.size > 1 else zero.data.reshape(()))
            if weights is not None:
                inputs[position] = None
    while inputs[-1] is None:
        inputs.pop()
    return (weights, inputs) if len(inputs) < len(node.inputs) or weights is not None else None


def _is_decoder(node: Node) -> bool:
    return all(v.is_constant for v in node.present_inputs) and node.input(0).type.dtype in NARROW


class MoveBeforeDecoding(RewriteRule):
    """move(decode(w, s)) → decode(move(w), move(s)) for transpose, slice and reshape, and gather of few rows."""

    name = "move-before-decoding"
    pattern = op(
        ("transpose", "slice", "reshape", "gather"),
        op(("dequantize", "log_dequantize"), where=_is_decoder, name="decode"),
    )

    def check(self, match: Match) -> str | None:
        """The parameters must be movable, and a gather must look up less than the table holds."""
        decode = match.node("decode")
        if match["decode"].type.shape != decode.input(0).type.shape:
            return "the parameters broadcast the constant"
        if match.root.op == "gather":
            before, after = match["decode"].type.elements, match.root.output.type.elements
            if isinstance(after, int) and isinstance(before, int) and after >= before:
                return "the table is smaller than what is looked up"
        for parameter in decode.present_inputs[1:]:
            if not _can_move(match.root, parameter):
                return "a parameter varies along axes that change"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Moves integers and parameters."""
        node, decode = match.root, match.node("decode")
        w = rewriter.add(node.op, decode.input(0), *node.inputs[1:], **node.attributes)
        parameters = [_moved(rewriter, node, value) for value in decode.present_inputs[1:]]
        rewriter.replace(rewriter.add(decode.op, w, *parameters, **decode.attributes))


def _full_rank(node: Node, parameter: Value) -> np.ndarray:
    rank = node.input(0).type.rank
    return parameter.data.reshape((1,) * (rank - parameter.data.ndim) + parameter.data.shape)


def _long_axes(shape: tuple[object, ...]) -> list[int]:
    return [axis for axis, dim in enumerate(shape) if dim != 1]


def _can_move(node: Node, parameter: Value) -> bool:
    if parameter.data.size == 1 or node.op == "transpose":
        return True
    if node.op == "slice":
        return all(isinstance(dim, int) for name in ("starts", "sizes") for dim in node.attributes[name])
    before, after = node.input(0).type.shape, node.output.type.shape
    if node.op == "reshape":
        return [before[axis] for axis in _long_axes(before)] == [after[axis] for axis in _long_axes(after)]
    axis = node.attributes["axis"]
    return all(size == 1 for other, size in enumerate(_full_rank(node, parameter).shape) if other != axis) or (
        _full_rank(node, parameter).shape[axis] == 1
    )


def _moved(rewriter: Rewriter, node: Node, parameter: Value) -> Value:
    if parameter.data.size == 1:
        return parameter if parameter.type.rank == 0 else rewriter.constant(parameter.data.reshape(()), parameter.name)
    full = _full_rank(node, parameter)
    if node.op == "transpose":
        return rewriter.constant(full.transpose(node.attributes["perm"]), parameter.name)
    if node.op == "slice":
        starts, sizes, steps = (node.attributes[name] for name in ("starts", "sizes", "steps"))
        taken = tuple(
            slice(None) if extent == 1 else start + step * np.arange(size)
            for extent, start, size, step in zip(full.shape, starts, sizes, steps, strict=True)
        )
        for axis, index in enumerate(taken):
            if not isinstance(index, slice):
                full = np.take(full, index, axis)
        return rewriter.constant(full, parameter.name)
    if node.op == "reshape":
        before, after = node.input(0).type.shape, node.output.type.shape
        sizes = [1] * len(after)
        for old, new in zip(_long_axes(before), _long_axes(after), strict=True):
            sizes[new] = full.shape[old]
        return rewriter.constant(full.reshape(sizes), parameter.name)
    axis = node.attributes["axis"]
    if full.shape[axis] == 1:
        lookup = (1,) * node.input(1).type.rank
        return rewriter.constant(full.reshape(*full.shape[:axis], *lookup, *full.shape[axis + 1 :]), parameter.name)
    table = rewriter.constant(full, parameter.name)
    return rewriter.add("gather", table, node.input(1), axis=axis)


DECODER_RULES: tuple[RewriteRule, ...] = (
    DequantizeForm(),
    DequantizeFormWithZero(),
    CenterWeights(),
    CenterIntegerWeights(),
    MoveBeforeDecoding(),
)
