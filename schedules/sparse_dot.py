"""The loops of a product with a sparse matrix for few positions: one dot product after the other, without vectors.

A row's nonzeros meet elements of x that lie apart, and there are too few positions to make vectors of them. Eight
partial sums hide the latency of the additions. What is gained over a dense product is bytes: it streams all weights.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.sparse_arguments import SparseArguments, whole
from edgeir.schedules.sparse_epilogue import Epilogue, with_loops
from edgeir.schedules.sparse_problem import SparseProblem
from edgeir.schedules.tir_types import AnyBuffer, AnyFunc, Expression

PARTIAL_SUMS = 8
"""Latency of an addition times additions per cycle."""


def sparse_dot(problem: SparseProblem, parallel: bool, epilogue: Epilogue, x: int) -> AnyFunc:
    """The kernel.

    Args:
        problem: the product; its activations are not blocked.
        parallel: whether threads share the blocks of outputs.
        epilogue: the formula of an output element.
        x: index of the activation's operand.
    """
    return with_loops(epilogue.func, lambda: _Dots(problem, epilogue, x).emit(parallel))


class _Dots(SparseArguments):
    """Writes the loops."""

    def emit(self, parallel: bool) -> None:
        problem, lanes = self.problem, self.problem.lanes
        short, extent = problem.outputs % lanes, problem.blocks
        with T.parallel(0, extent) if parallel and extent > 1 else T.serial(0, extent) as block:
            sums = T.alloc_buffer((lanes,), "float32", layout=None)
            with T.serial(0, problem.positions) as position:
                rows: Any = tirx.min(lanes, problem.outputs - block * lanes) if short else lanes
                with T.serial(0, rows) as row:
                    self.dot(block * lanes + row, position, sums, row)
                self.write_block(block, position, sums)

    def write_block(self, block: Expression, position: Expression, sums: AnyBuffer) -> None:
        """Stores the results of a block of outputs, some of which may not exist."""
        lanes = self.problem.lanes
        whole, short = divmod(self.problem.outputs, lanes)

        def vector() -> None:
            with T.vectorized(0, lanes) as lane:
                self.write(0, block * lanes + lane, position, tirx.BufferLoad(sums, [lane]))

        if not short:
            vector()
            return
        with T.If(block < whole):
            with T.Then():
                vector()
            with T.Else(), T.serial(0, short) as row:
                self.write(0, block * lanes + row, position, tirx.BufferLoad(sums, [row]))

    def dot(self, row: Expression, position: Expression, sums: AnyBuffer, place: Expression) -> None:
        """One element of the product."""
        partial = T.alloc_buffer((PARTIAL_SUMS,), "float32", layout=None)
        for index in range(PARTIAL_SUMS):
            T.buffer_store(partial, tirx.FloatImm("float32", 0.0), [index])
        first = T.bind(self.integer(row))
        pairs = T.bind(self.integer(row + 1) - first)
        together = PARTIAL_SUMS // 2
        steps = T.bind(tirx.floordiv(pairs, together))
        with T.serial(0, steps) as step:
            for pair in range(together):
                self.add(first + step * together + pair, position, partial, 2 * pair)
        with T.serial(steps * together, pairs) as pair:
            self.add(first + pair, position, partial, 0)
        total: Expression = tirx.FloatImm("float32", 0.0)
        for index in range(PARTIAL_SUMS):
            total = total + tirx.BufferLoad(partial, [whole(index)])
        T.buffer_store(sums, total, [place])

    def add(self, pair: Expression, position: Expression, partial: AnyBuffer, index: int) -> None:
        """Adds the products of a pair of nonzeros to two partial sums."""
        planes = self.problem.read == "planes"
        for number, (column, value) in enumerate(self.nonzeros(pair)):
            at = column * self.problem.positions + position if planes else position * self.problem.depth + column
            place = [whole(index + number)]
            T.buffer_store(partial, tirx.BufferLoad(partial, place) + value * self.element(at), place)
