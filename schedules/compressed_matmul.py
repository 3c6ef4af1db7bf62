"""Matrix product with a constant right operand that is compressed: integers of 8 or 4 bits, codes of logarithms.

The packed panels stay compressed in memory, 4-bit numbers two in a byte. With many rows a panel is decoded once into a
small buffer of floats, and then used by all tiles of rows; with few rows, bound by memory, each vector is decoded where
it is multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.errors import EdgeIRError
from edgeir.schedules.compressed_weights import column_scaled, decoded_element, pack_pairs, pair_element
from edgeir.schedules.matmul_problem import MatmulProblem, matmul_problem, required_problem
from edgeir.schedules.matmul_tile import (
    PANELS,
    MatmulTile,
    Sums,
    accumulate,
    choose_matmul_tile,
    schedule_float_sums,
    schedule_matmul,
    tile_space,
)
from edgeir.schedules.task import Compressed, Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyTensor
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target


class CompressedMatmul:
    """Float products whose right operand the kernel decodes."""

    name = "compressed-matmul"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the task is a float32 product with one right-hand matrix, a compressed constant."""
        problem = matmul_problem(task)
        return target.kind == "llvm" and task.compressed is not None and problem is not None and problem.groups == 1

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Register tiles, and where the right operand is decoded: a panel at a time, or in the innermost loop."""
        return {**tile_space(_problem(task), target), "decode": ("panel", "inner")}

    def default(self, task: Task, target: Target) -> Config:
        """The tile that wastes least; a panel at a time where more than one tile of rows reads it."""
        problem = _problem(task)
        tile = choose_matmul_tile(problem, target)
        return {
            "rows": tile.rows,
            "vectors": tile.vectors,
            "decode": "panel" if problem.rows > tile.rows else "inner",
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel and how to pack its constant.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        problem, compressed = _problem(task), task.compressed
        assert compressed is not None
        space = self.space(task, target)
        if set(config) != set(space) or config["decode"] not in space["decode"]:
            raise EdgeIRError("wrong knobs", where=self.name, expected=sorted(space), got=dict(config))
        sizes = {knob: config[knob] for knob in ("rows", "vectors")}
        tile = MatmulTile.from_config(sizes, tile_space(problem, target), self.name)
        width, dtype = tile.width(target), task.operands[compressed.operand].spec.dtype
        whole = config["decode"] == "panel"

        def view(packed: Any, index: Sequence[Any]) -> Any:
            k, column = index[-2:][::-1] if problem.transpose_b else index[-2:]
            at = (column // width, k, column % width)
            return pair_element(packed, at, 1, dtype) if compressed.bits == 4 else packed[at]

        def anchor(inputs: Sequence[AnyTensor]) -> AnyTensor:
            a, b = inputs

            def element(g: Any, o: Any, k: Any, v: Any) -> Any:
                column = o * width + v
                value, _ = column_scaled(decoded_element(b, problem.b_index(g, k, column)), k)
                if problem.columns % width == 0:
                    return value
                return tirx.if_then_else(column < problem.columns, value, tirx.const(0, problem.dtype))

            if whole:
                panels: Any = te.compute((1, _panels(problem, width), problem.depth, width), element, name=PANELS)
                product = accumulate(problem, width, a, lambda g, o, k, v: panels[g, o, k, v])
            else:
                product = accumulate(problem, width, a, element)
            return _scaled(problem, product, b)

        placeholders, outputs = compressed.build(anchor, _packed_shape(problem, width, compressed), view)
        args: list[Any] = [*placeholders, *outputs]
        order = partial(schedule_float_sums, together=2 if compressed.bits == 4 and not whole else 1)
        sums = Sums(order, panel_at_a_time=whole)
        func = schedule_matmul(args, task.name, problem, tile, target, sums)
        return Kernel(func, {compressed.operand: _pack(problem, width, compressed)}, workspace_bytes(func))


def _scaled(problem: MatmulProblem, product: AnyTensor, b: AnyTensor) -> AnyTensor:
    """The product, times the factor of each column that `column_scaled` left out."""
    k = tirx.Var("k", "int32")

    def factor(column: Any) -> Any:
        return column_scaled(decoded_element(b, problem.b_index(0, k, column)), k)[1]

    if factor(tirx.Var("column", "int32")) is None:
        return product
    return te.compute(product.shape, lambda *i: product[i] * factor(i[-1]), name="matmul_scaled")


def _panels(problem: MatmulProblem, width: int) -> int:
    return math.ceil(problem.columns / width)


def _packed_shape(problem: MatmulProblem, width: int, compressed: Compressed) -> tuple[int, ...]:
    """(panels, depth, width), half the depth where two numbers share a byte."""
    depth = math.ceil(problem.depth / 2) if compressed.bits == 4 else problem.depth
    return (_panels(problem, width), depth, width)


def _pack(problem: MatmulProblem, width: int, compressed: Compressed) -> Callable[[np.ndarray], np.ndarray]:
    """Packs the right operand into panels, zeros where the last one is not full."""

    def pack(array: np.ndarray) -> np.ndarray:
        depth = problem.depth + (problem.depth % 2 if compressed.bits == 4 else 0)
        full = np.zeros((depth, _panels(problem, width) * width), array.dtype)
        full[: problem.depth, : problem.columns] = problem.right_matrices(array)[0]
        panels = np.ascontiguousarray(full.reshape(depth, -1, width).transpose(1, 0, 2))
        return pack_pairs(panels, 1) if compressed.bits == 4 else panels

    return pack


def _problem(task: Task) -> MatmulProblem:
    return required_problem(task, matmul_problem(task))
