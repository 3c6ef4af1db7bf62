"""A product of a sparse constant matrix and an activation, read from a task.

    y[o, p] = sum over k of w[o, k] * x[k, p]

Positions p are an image's pixels, or the rows of a matrix product's left operand. Values that are computed together, a
vector, are those of neighbouring positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeir.schedules.conv_problem import conv_problem, is_plain_float_conv
from edgeir.schedules.matmul_problem import matmul_problem
from edgeir.schedules.sparse_storage import SparsePattern
from edgeir.schedules.task import Task
from edgeir.targets.target import Target

Arrangement = Literal["planes", "rows"]
"""How an activation lies in memory: positions innermost (`planes`), or `inner` channels innermost (`rows`)."""


@dataclass(frozen=True)
class SparseProblem:
    """One product.

    Attributes:
        images: how many independent activations the same weights meet.
        positions: positions of one image.
        depth: inputs that are summed over.
        outputs: outputs of one position.
        lanes: elements of a vector of positions, and rows of weights that are computed together.
        read: arrangement of the input.
        read_inner: for `rows`, channels of a block: (images, depth / inner, positions, inner).
        write: arrangement of the output.
        write_inner: for `rows`, channels of a block of the output.
        position_axes: how many of the output's axes, counted from `first_axis`, are the positions.
        first_axis: the first of them.
        weight: index of the weight's operand.
        pattern: the weight's pattern.
    """

    images: int
    positions: int
    depth: int
    outputs: int
    lanes: int
    read: Arrangement
    read_inner: int
    write: Arrangement
    write_inner: int
    first_axis: int
    position_axes: int
    weight: int
    pattern: SparsePattern

    @property
    def groups(self) -> int:
        """Vectors that cover all positions of an image; the last one overlaps the one before it."""
        return -(-self.positions // self.lanes)

    @property
    def blocks(self) -> int:
        """Blocks of `lanes` outputs."""
        return -(-self.outputs // self.lanes)

    @property
    def stored_rows(self) -> int:
        """Rows of weights, empty ones of the last block included."""
        return self.blocks * self.lanes

    @property
    def by_vectors(self) -> bool:
        """Whether there are enough positions, and inputs that lie together, to work with vectors of positions."""
        return self.positions >= self.lanes and (self.read == "planes" or self.read_inner >= self.lanes)

    @property
    def nonzeros(self) -> int:
        """Nonzeros that are stored, those that fill pairs included."""
        return 2 * self.pattern.pairs

    @property
    def blocked_output(self) -> bool:
        """Whether the output lies in blocks of channels, of which the last may have lanes beyond the channels."""
        return self.write == "rows" and self.first_axis > 0


def sparse_conv(task: Task, target: Target) -> SparseProblem | None:
    """The product that a convolution is, or None where it is none or its weight is dense.

    Float32 convolutions with a kernel of one pixel, stride 1, no padding, one group, whose input and weight are read
    directly. Blocked activations have blocks of one width, and at least as many pixels.
    """
    if task.sparsity is None or target.kind != "llvm" or not is_plain_float_conv(task):
        return None
    problem = conv_problem(task)
    simple = set(problem.kernel) == {1} and set(problem.strides) == {1} and problem.groups == 1 and not problem.padded
    if not simple or problem.weight_operand is None or task.anchor_operands[0] is None:
        return None
    blocks = {block for block in (problem.in_block, problem.out_block) if block}
    lanes = blocks.pop() if blocks else _lanes(target)
    if blocks or lanes not in _WIDTHS or problem.pixels < lanes or problem.in_spatial != problem.out_spatial:
        return None
    return SparseProblem(
        images=problem.batch,
        positions=problem.pixels,
        depth=problem.in_channels,
        outputs=problem.out_channels,
        lanes=lanes,
        read="rows" if problem.in_block else "planes",
        read_inner=problem.in_block,
        write="rows" if problem.out_block else "planes",
        write_inner=problem.out_block,
        first_axis=2,
        position_axes=problem.rank,
        weight=problem.weight_operand,
        pattern=task.sparsity,
    )


def sparse_matmul(task: Task, target: Target) -> SparseProblem | None:
    """The product with a sparse right operand, whose columns are the outputs; None where it is none.

    Float32 products with one constant right matrix that is read directly, and with a left operand that is.
    """
    problem = matmul_problem(task) if task.sparsity is not None and target.kind == "llvm" else None
    if problem is None or problem.groups != 1 or task.sparsity is None:
        return None
    left, right = task.anchor_operands[:2]
    if left is None or right is None or left == right or not task.operands[right].constant:
        return None
    if problem.transpose_a and math.prod(problem.batch) > 1:
        return None
    return SparseProblem(
        images=1,
        positions=problem.rows,
        depth=problem.depth,
        outputs=problem.columns,
        lanes=_lanes(target),
        read="planes" if problem.transpose_a else "rows",
        read_inner=problem.depth,
        write="rows",
        write_inner=problem.columns,
        first_axis=0,
        position_axes=len(problem.batch) + 1,
        weight=right,
        pattern=task.sparsity,
    )


_WIDTHS = (4, 8, 16)
"""Lanes of a vector that the transposition is written for."""


def _lanes(target: Target) -> int:
    return max(_WIDTHS[0], min(_WIDTHS[-1], target.lanes(32)))


def weight_rows(task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """How a weight's array becomes a matrix with one row per output."""
    if task.anchor == "conv":
        return lambda array: array.reshape(array.shape[0], -1)
    if task.attributes.get("transpose_b"):
        return lambda array: array.reshape(array.shape[-2:])
    return lambda array: array.reshape(array.shape[-2:]).T
