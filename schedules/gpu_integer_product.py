"""Integer convolutions and matrix products on a GPU as products of matrices of bytes, four of them to a word along K.

    left[j, i] = (a[i, 4j], a[i, 4j + 1], a[i, 4j + 2], a[i, 4j + 3])      right[j, n] the same of b[4j + q, n]

A constant weight is packed into such words at compile time. The sums are raw ones, Σ left · right, over an input whose
border holds the left zero point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import te, tirx

from edgeir.schedules.conv_problem import ConvProblem, conv_problem
from edgeir.schedules.gpu_conv import input_index, unravel
from edgeir.schedules.gpu_gemm import LEFT, RIGHT
from edgeir.schedules.gpu_integer_words import BYTES, as_signed, repeated, word
from edgeir.schedules.matmul_problem import product_sizes
from edgeir.schedules.task import Task
from edgeir.schedules.tir_types import Expression

BYTE_TYPES = ("int8", "uint8")

Words = Callable[[Sequence[te.Tensor], Expression, Expression, Expression], Expression]
"""From the anchor's inputs, a group, a row (or column) and a word of K to that word of the operand."""


@dataclass(frozen=True)
class PackedWeight:
    """How a constant weight is stored as words.

    Attributes:
        operand: index of the kernel's operand.
        shape: (groups, words of K, rows or columns, 4).
        pack: from the array as it is to that shape.
        left: whether it is the left operand.
        group: from a group of the product to one of the weight.
    """

    operand: int
    shape: tuple[int, ...]
    pack: Callable[[np.ndarray], np.ndarray]
    left: bool
    group: Callable[[Expression], Expression]


@dataclass(frozen=True)
class ByteProduct:
    """`groups` independent products of (rows, 4·words) and (4·words, columns) bytes.

    Attributes:
        groups, rows, columns, words: sizes.
        depth: terms of a sum without padding.
        out_shape, row_axes: the result, as of `Gemm`.
        left_dtype, right_dtype: `int8` or `uint8`. Of two different ones the unsigned operand's words are signed.
        left, right: the words of the operands.
        weight: the operand that is packed, if one is.
        along_depth: the operands (`LEFT`, `RIGHT`) whose words are neighbours in memory along K.
    """

    groups: int
    rows: int
    columns: int
    words: int
    depth: int
    out_shape: tuple[int, ...]
    row_axes: int
    left_dtype: str
    right_dtype: str
    left: Words
    right: Words
    weight: PackedWeight | None
    along_depth: tuple[str, ...]


def byte_product(task: Task) -> ByteProduct | None:
    """The product of an integer task, or None where its operands or zero points are others than kernels handle."""
    if task.anchor not in ("conv_integer", "matmul_integer") or len(task.outputs) != 1:
        return None
    one, other = task.anchor_inputs[:2]
    if {one.dtype, other.dtype} - set(BYTE_TYPES) or task.outputs[0].shape != task.anchor_output.shape:
        return None
    if any(s.layout not in ("", "NCHW", "NCW", "NCDHW") for s in (one, task.anchor_output)):
        return None
    if 0 in (*one.shape, *other.shape, *task.anchor_output.shape):
        return None
    # Without facts about constants the sums are of differences, which zero points make longer than 8 bits.
    if task.integers is None and len(task.anchor_inputs) > 2:
        return None
    return _convolution(task) if task.anchor == "conv_integer" else _matmul(task)


def required_product(task: Task) -> ByteProduct:
    """The product of a task that a template's `match` accepted."""
    product = byte_product(task)
    assert product is not None
    return product


def _signed(dtype: str, other: str, words: Words) -> Words:
    """Words of an operand, made signed where only this operand is unsigned."""
    if dtype == other or dtype == "int8":
        return words
    return lambda inputs, g, i, j: as_signed(words(inputs, g, i, j))


def _either(inside: Sequence[Expression], value: Expression, otherwise: Expression) -> Expression:
    return tirx.if_then_else(tirx.all(*inside), value, otherwise) if inside else value


def _constant_weight(task: Task) -> int | None:
    index = task.anchor_operands[1]
    if index is None or not task.operands[index].constant or index == task.anchor_operands[0]:
        return None
    return index


def _packed_word(tensor: te.Tensor, group: Expression, j: Expression, i: Expression) -> Expression:
    return word([tensor(group, j, i, q) for q in range(BYTES)])


def _matmul(task: Task) -> ByteProduct | None:
    problem = product_sizes(task)
    if problem is None:
        return None
    words = math.ceil(problem.depth / BYTES)
    a, b = (spec.dtype for spec in task.anchor_inputs[:2])

    def element(tensor: te.Tensor, index: tuple[Expression, ...], k: Expression, q: int) -> Expression:
        inside = [k < problem.depth] if q and problem.depth % BYTES else []
        return _either(inside, tensor(*index), tirx.const(0, tensor.dtype))

    def left(inputs: Sequence[te.Tensor], g: Expression, i: Expression, j: Expression) -> Expression:
        terms = [(j * BYTES + q, q) for q in range(BYTES)]
        return word([element(inputs[0], problem.a_index(g, i, k), k, q) for k, q in terms])

    def right(inputs: Sequence[te.Tensor], g: Expression, n: Expression, j: Expression) -> Expression:
        terms = [(j * BYTES + q, q) for q in range(BYTES)]
        return word([element(inputs[1], problem.b_index(g, k, n), k, q) for k, q in terms])

    def pack(array: np.ndarray) -> np.ndarray:
        full = np.zeros((problem.groups, words * BYTES, problem.columns), b)
        full[:, : problem.depth] = problem.right_matrices(array)
        split = full.reshape(problem.groups, words, BYTES, problem.columns)
        return np.ascontiguousarray(split.swapaxes(2, 3))

    operand, weight = _constant_weight(task), None
    if operand is not None and problem.groups in (1, math.prod(problem.b_shape[:-2])):
        weight = PackedWeight(operand, (problem.groups, words, problem.columns, BYTES), pack, False, lambda g: g)
    along = {LEFT: not problem.transpose_a, RIGHT: problem.transpose_b and weight is None}
    packed: Words = lambda inputs, g, n, j: _packed_word(inputs[1], g, j, n)  # noqa: E731
    return ByteProduct(
        groups=problem.groups,
        rows=problem.rows,
        columns=problem.columns,
        words=words,
        depth=problem.depth,
        out_shape=task.anchor_output.shape,
        row_axes=len(task.anchor_output.shape) - 1,
        left_dtype=a,
        right_dtype=b,
        left=_signed(a, b, left),
        right=_signed(b, a, right if weight is None else packed),
        weight=weight,
        along_depth=tuple(name for name, is_along in along.items() if is_along),
    )


@dataclass(frozen=True)
class _KernelOrder:
    """The order in which a convolution's sum runs.

    Channels are innermost, so that the four bytes of a word have one kernel position and one test for the border,
    unless that would leave too many words half empty.
    """

    problem: ConvProblem

    @property
    def positions(self) -> int:
        return math.prod(self.problem.kernel)

    @property
    def channel_words(self) -> int:
        return math.ceil(self.problem.in_group / BYTES)

    @property
    def depth(self) -> int:
        return self.problem.in_group * self.positions

    @property
    def by_channel(self) -> bool:
        return self.channel_words * self.positions <= 1.15 * math.ceil(self.depth / BYTES)

    @property
    def words(self) -> int:
        return self.channel_words * self.positions if self.by_channel else math.ceil(self.depth / BYTES)

    def terms(self, j: Expression) -> list[tuple[Expression, list[Expression], list[Expression]]]:
        """Channel, kernel position and conditions of existence of each byte of word j."""
        found = []
        for q in range(BYTES):
            if self.by_channel:
                channel, offsets = j % self.channel_words * BYTES + q, j // self.channel_words
                real = [channel < self.problem.in_group] if self.problem.in_group % BYTES else []
                found.append((channel, unravel(offsets, self.problem.kernel), real if q else []))
            else:
                k = j * BYTES + q
                channel, *offsets = unravel(k, (self.problem.in_group, *self.problem.kernel))
                found.append((channel, offsets, [k < self.depth] if q and self.depth % BYTES else []))
        return found

    def pack(self, array: np.ndarray) -> np.ndarray:
        """(O, I, …) → (groups, words, O of a group, 4), zeros where a word is not full."""
        problem = self.problem
        split = array.reshape(problem.groups, problem.out_group, problem.in_group, self.positions)
        if self.by_channel:
            spare = self.channel_words * BYTES - problem.in_group
            split = np.pad(split.swapaxes(2, 3), ((0, 0), (0, 0), (0, 0), (0, spare)))
        flat = split.reshape(problem.groups, problem.out_group, -1)
        flat = np.pad(flat, ((0, 0), (0, 0), (0, self.words * BYTES - flat.shape[2])))
        words = flat.reshape(problem.groups, problem.out_group, self.words, BYTES)
        return np.ascontiguousarray(words.swapaxes(1, 2))


def _convolution(task: Task) -> ByteProduct:
    problem = conv_problem(task)
    order, border = _KernelOrder(problem), 0 if task.integers is None else task.integers.left_zero
    x_dtype, w_dtype = (spec.dtype for spec in task.anchor_inputs[:2])

    def group(g: Expression) -> Expression:
        return g % problem.groups if problem.groups > 1 else 0

    def packed(inputs: Sequence[te.Tensor], g: Expression, o: Expression, j: Expression) -> Expression:
        return _packed_word(inputs[1], group(g), j, o)

    def unpacked(inputs: Sequence[te.Tensor], g: Expression, o: Expression, j: Expression) -> Expression:
        channel = group(g) * problem.out_group + o
        zero = tirx.const(0, w_dtype)
        return word([_either(real, inputs[1](channel, c, *at), zero) for c, at, real in order.terms(j)])

    def patch(inputs: Sequence[te.Tensor], g: Expression, p: Expression, j: Expression) -> Expression:
        elements, conditions = [], []
        for channel, offsets, real in order.terms(j):
            index, inside = input_index(problem, g, channel, offsets, p)
            conditions = inside
            if order.by_channel:
                elements.append(_either(real, inputs[0](*index), tirx.const(0, x_dtype)))
            else:
                value = _either(inside, inputs[0](*index), tirx.const(border, x_dtype))
                elements.append(_either(real, value, tirx.const(0, x_dtype)))
        return _either(conditions, word(elements), repeated(border)) if order.by_channel else word(elements)

    weight = None
    operand = _constant_weight(task)
    if operand is not None:
        shape = (problem.groups, order.words, problem.out_group, BYTES)
        weight = PackedWeight(operand, shape, lambda array: order.pack(array.astype(w_dtype)), True, group)
    return ByteProduct(
        groups=problem.batch * problem.groups,
        rows=problem.out_group,
        columns=problem.pixels,
        words=order.words,
        depth=order.depth,
        out_shape=task.anchor_output.shape,
        row_axes=2,
        left_dtype=w_dtype,
        right_dtype=x_dtype,
        left=_signed(w_dtype, x_dtype, unpacked if weight is None else packed),
        right=_signed(x_dtype, w_dtype, patch),
        weight=weight,
        along_depth=(),
    )
