"""A matrix product as templates see it: sizes, which operand is constant, and how to index the operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.schedules.task import Task


@dataclass(frozen=True)
class MatmulProblem:
    """`groups` independent products of a (rows, depth) and a (depth, columns) matrix.

    Batch dimensions that the right operand does not have are rows, not groups.

    Attributes:
        groups: how many right-hand matrices there are.
        rows, columns, depth: sizes of one product.
        batch: the output's batch dimensions.
        a_shape, b_shape: the operands as they lie in memory.
        transpose_a, transpose_b: whether their last two dimensions are swapped.
        matrix_rows: the output's last but one dimension.
        dtype: of the output.
    """

    groups: int
    rows: int
    columns: int
    depth: int
    batch: tuple[int, ...]
    a_shape: tuple[int, ...]
    b_shape: tuple[int, ...]
    transpose_a: bool
    transpose_b: bool
    matrix_rows: int
    dtype: str

    def _batch_index(self, group: Any, row: Any) -> list[Any]:
        """Positions along the output's batch dimensions."""
        if math.prod(self.batch) == 1:
            return [0] * len(self.batch)
        flat = row // self.matrix_rows if self.groups == 1 else group
        index = []
        for axis in range(len(self.batch)):
            inner = math.prod(self.batch[axis + 1 :])
            index.append(flat // inner % self.batch[axis] if axis else flat // inner)
        return index

    def _operand_index(self, shape: Sequence[int], batch: Sequence[Any], pair: tuple[Any, Any]) -> tuple[Any, ...]:
        own = shape[:-2]
        used = batch[len(batch) - len(own) :]
        return (*(0 if size == 1 else position for size, position in zip(own, used, strict=True)), *pair)

    def a_index(self, group: Any, row: Any, k: Any) -> tuple[Any, ...]:
        """Where the left operand's element (row, k) of a group lies."""
        batch = self._batch_index(group, row)
        matrix_row = row if math.prod(self.batch) == 1 or self.groups > 1 else row % self.matrix_rows
        return self._operand_index(self.a_shape, batch, (k, matrix_row) if self.transpose_a else (matrix_row, k))

    def b_index(self, group: Any, k: Any, column: Any) -> tuple[Any, ...]:
        """Where the right operand's element (k, column) of a group lies."""
        if self.groups == 1:
            batch: list[Any] = [0] * len(self.batch)
        else:
            batch = self._batch_index(group, 0)
        return self._operand_index(self.b_shape, batch, (column, k) if self.transpose_b else (k, column))

    def group_and_row(self, index: Sequence[Any]) -> tuple[Any, Any]:
        """The group and row of an output element at (batch…, row)."""
        flat: Any = 0
        for size, position in zip(self.batch, index[:-1], strict=True):
            flat = flat * size + (position if size > 1 else 0)
        return (0, flat * self.matrix_rows + index[-1]) if self.groups == 1 else (flat, index[-1])

    def right_matrices(self, array: np.ndarray) -> np.ndarray:
        """The right operand as (groups, depth, columns)."""
        matrices = np.swapaxes(array, -1, -2) if self.transpose_b else array
        if self.groups > 1:
            matrices = np.broadcast_to(matrices, (*self.batch, self.depth, self.columns))
        return matrices.reshape(self.groups, self.depth, self.columns)


def matmul_problem(task: Task) -> MatmulProblem | None:
    """The product that a task computes, or None where it is none that the matmul templates handle.

    They want float matrices of rank 2 or more of one dtype, no empty dimension, and one output of the product's shape.
    """
    if task.anchor != "matmul" or len(task.anchor_inputs) != 2:
        return None
    if {spec.dtype for spec in (*task.anchor_inputs, task.anchor_output)} - {"float32"}:
        return None
    return product_sizes(task)


def required_problem(task: Task, problem: MatmulProblem | None) -> MatmulProblem:
    """A problem that a template's `match` found.

    Raises:
        EdgeIRError: there is none.
    """
    if problem is None:
        raise EdgeIRError("not a product that the matmul templates handle", where=task.name)
    return problem


def product_sizes(task: Task) -> MatmulProblem | None:
    """The sizes of the product of a task's first two inputs, of whatever element types; None as in `matmul_problem`."""
    if len(task.anchor_inputs) < 2 or len(task.outputs) != 1:
        return None
    a, b, out = (*task.anchor_inputs[:2], task.anchor_output)
    if min(len(a.shape), len(b.shape)) < 2 or a.layout or b.layout or task.outputs[0].shape != out.shape:
        return None
    if 0 in (*a.shape, *b.shape):
        return None
    transpose_a, transpose_b = bool(task.attributes.get("transpose_a")), bool(task.attributes.get("transpose_b"))
    m, depth = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    k, n = b.shape[-2:][::-1] if transpose_b else b.shape[-2:]
    batch = tuple(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    if k != depth or out.shape != (*batch, m, n):
        return None
    shared = math.prod(b.shape[:-2]) == 1
    groups = 1 if shared else math.prod(batch)
    rows = m * math.prod(batch) if shared else m
    return MatmulProblem(groups, rows, n, depth, batch, a.shape, b.shape, transpose_a, transpose_b, m, out.dtype)
