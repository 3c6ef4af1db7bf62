"""Matrix product of bytes with a constant right operand: quads of K against packed panels (`dot_intrinsics`).

    sums[r, v] += Σ_q a[r, 4j + q] * b[j, v, q]      q = 0 … 3

As in `matmul_packed`, a tile of rows x vectors of columns is summed in registers, and the epilogue (offset of the zero
point, scales, bias, activation, bytes) runs on it. One row streams the panels once, bound by memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.schedules.compressed_packing import DECODED
from edgeir.schedules.dot_intrinsics import QUAD, DotProduct, dot_product
from edgeir.schedules.dot_loops import mark, with_dot_products
from edgeir.schedules.integer_tile import dot_step_cycles, dot_tile_fits
from edgeir.schedules.matmul_problem import MatmulProblem, product_sizes, required_problem
from edgeir.schedules.matmul_tile import ACCUMULATOR, MatmulTile, Sums, schedule_matmul, tile_space
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnySchedule, AnyTensor
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

LEFT = "matmul_left"
"""A copy of the left operand whose rows are whole quads."""

_MAX_VECTORS = 8
_MEMORY_BYTES = 8
"""Bytes that one core reads from memory in a cycle, about."""


class IntegerMatmul:
    """`matmul_integer` with a constant right operand without a zero point, on machines with an inner product."""

    name = "integer-matmul"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the right operand is an int8 constant of its own, and the target multiplies such bytes exactly."""
        if task.anchor != "matmul_integer" or task.integers is None or target.kind != "llvm":
            return False
        problem, right = product_sizes(task), task.anchor_operands[1]
        if problem is None or problem.transpose_a or right is None or not task.operands[right].constant:
            return False
        return task.anchor_operands[0] != right and _dot(task, target) is not None

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Register tiles: `rows` of the left operand, `vectors` of columns."""
        return tile_space(_problem(task), target)

    def default(self, task: Task, target: Target) -> Config:
        """The tile that fits the registers and needs the fewest cycles."""
        tile = choose_tile(_problem(task), _required_dot(task, target), target)
        return {"rows": tile.rows, "vectors": tile.vectors}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel and how to pack its constant.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        problem, tile = _problem(task), MatmulTile.from_config(config, self.space(task, target), self.name)
        dot, right = _required_dot(task, target), task.anchor_operands[1]
        assert right is not None
        shape = packed_shape(problem, dot, tile.vectors)

        def anchor(inputs: Sequence[AnyTensor]) -> AnyTensor:
            return quad_sums(problem, dot, inputs[0], inputs[1], tile.vectors)

        placeholders, outputs = task.build(anchor, {right: shape})
        args: list[Any] = [*placeholders, *outputs]
        func = schedule_matmul(args, task.name, problem, tile, target, dot_sums(dot), frozenset({LEFT, DECODED}))
        return Kernel(func, {right: pack_quads(problem, dot, tile.vectors)}, workspace_bytes(func))


def packed_shape(problem: MatmulProblem, dot: DotProduct, vectors: int) -> tuple[int, ...]:
    """(groups, panels, quads of K, vectors, lanes, 4), or (…, 2, lanes, 2) in halves."""
    panels = math.ceil(problem.columns / (vectors * dot.lanes))
    register = (2, dot.lanes, QUAD // 2) if dot.halves else (dot.lanes, QUAD)
    return (problem.groups, panels, math.ceil(problem.depth / QUAD), vectors, *register)


def pack_quads(problem: MatmulProblem, dot: DotProduct, vectors: int) -> Callable[[np.ndarray], np.ndarray]:
    """Packs the right operand, zeros where the last panel or the last quad is not full."""
    groups, panels, quads = packed_shape(problem, dot, vectors)[:3]

    def pack(array: np.ndarray) -> np.ndarray:
        full = np.zeros((groups, quads * QUAD, panels * vectors * dot.lanes), np.int8)
        full[:, : problem.depth, : problem.columns] = problem.right_matrices(array)
        split = full.reshape(groups, quads, 2, QUAD // 2, panels, vectors, dot.lanes)
        order = (0, 4, 1, 5, 2, 6, 3) if dot.halves else (0, 4, 1, 5, 6, 2, 3)
        return np.ascontiguousarray(split.transpose(order)).reshape(packed_shape(problem, dot, vectors))

    return pack


def quad_sums(problem: MatmulProblem, dot: DotProduct, a: AnyTensor, panels: AnyTensor, vectors: int) -> AnyTensor:
    """The raw sums as TE stages: sums in whole panels, then the output's own shape."""
    shape = packed_shape(problem, dot, vectors)
    width = vectors * dot.lanes
    j: Any = te.reduce_axis((0, shape[2]), name="j")
    inner: list[Any] = [te.reduce_axis((0, 2), name="s"), te.reduce_axis((0, 2), name="q")] if dot.halves else []
    inner = inner or [te.reduce_axis((0, QUAD), name="q")]
    byte: Any = inner[0] * 2 + inner[1] if dot.halves else inner[0]
    left, whole = _whole_quads(problem, a)

    def product(g: Any, r: Any, o: Any, b: Any, v: Any) -> Any:
        at = (g, r, j * QUAD + byte) if whole else problem.a_index(g, r, j * QUAD + byte)
        lane = (inner[0], v, inner[1]) if dot.halves else (v, inner[0])
        right = panels[(g, o, j, b, *lane)]
        return te.sum(left[at].astype("int32") * right.astype("int32"), axis=[j, *inner])

    sums: Any = te.compute((shape[0], problem.rows, shape[1], vectors, dot.lanes), product, name=ACCUMULATOR)

    def result(*index: Any) -> Any:
        group, row = problem.group_and_row(index[:-1])
        column = index[-1]
        return sums[group, row, column // width, column % width // dot.lanes, column % dot.lanes]

    return te.compute((*problem.batch, problem.matrix_rows, problem.columns), result, name="matmul_integer")


def _whole_quads(problem: MatmulProblem, a: AnyTensor) -> tuple[AnyTensor, bool]:
    """The left operand, or where its rows are no whole quads a copy (groups, rows, K) filled up; whether it is one."""
    if problem.depth % QUAD == 0:
        return a, False
    depth = math.ceil(problem.depth / QUAD) * QUAD

    def element(g: Any, r: Any, k: Any) -> Any:
        value = a[problem.a_index(g, r, k)]
        return tirx.if_then_else(k < problem.depth, value, tirx.const(0, str(a.dtype)))

    copy: Any = te.compute((problem.groups, problem.rows, depth), element, name=LEFT)
    return copy, True


def dot_sums(dot: DotProduct) -> Sums:
    """Sums of a tile by inner products of whole registers, quads innermost."""

    def order(schedule: AnySchedule, sums: Any, depth: int, tile: MatmulTile, target: Target) -> None:
        inner = 2 if dot.halves else 1
        _, row, _, vector, lane, j = schedule.get_loops(sums)[depth : depth + 6]
        bytes_of = schedule.get_loops(sums)[-inner:]
        schedule.reorder(j, row, vector, lane, *bytes_of)
        schedule.unroll(vector)
        schedule.unroll(row)
        initial = schedule.decompose_reduction(sums, j)
        *_, row, _, vector, first = schedule.get_loops(initial)
        schedule.unroll(row)
        schedule.unroll(vector)
        mark(schedule, first)
        mark(schedule, lane)

    return Sums(order, lambda func: with_dot_products(func, dot), work=1 / QUAD, element_bytes=1)


def choose_tile(problem: MatmulProblem, dot: DotProduct, target: Target) -> MatmulTile:
    """The tile that needs the fewest cycles, what the last tiles compute twice or for nothing included.

    One row reads each panel once, padding too, and waits for memory where the panels do not stay in a cache.
    """
    columns = math.ceil(problem.columns / dot.lanes)
    best, best_key = MatmulTile(1, 1), (math.inf, math.inf, 0)
    beyond_cache = problem.rows == 1 and problem.columns * problem.depth > target.l2_bytes // 2
    for vectors in range(1, min(columns, _MAX_VECTORS) + 1):
        for rows in range(1, min(problem.rows, target.vector_registers) + 1):
            if rows * vectors > 1 and not dot_tile_fits(rows, vectors, dot, target):
                break
            tiles = math.ceil(problem.rows / rows) * math.ceil(columns / vectors)
            cycles = tiles * dot_step_cycles(rows, vectors, dot, target)
            read = tiles * vectors * dot.lanes * QUAD / _MEMORY_BYTES if beyond_cache else 0.0
            key = (max(cycles, read), cycles, -rows * vectors)
            if key < best_key:
                best, best_key = MatmulTile(rows, vectors), key
    return best


def _dot(task: Task, target: Target) -> DotProduct | None:
    left, right = task.anchor_inputs[:2]
    if task.integers is None or right.dtype != "int8":
        return None
    return dot_product(target, left.dtype, task.integers)


def _required_dot(task: Task, target: Target) -> DotProduct:
    dot = _dot(task, target)
    assert dot is not None
    return dot


def _problem(task: Task) -> MatmulProblem:
    return required_problem(task, product_sizes(task))
