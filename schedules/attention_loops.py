"""The loops of attention: the scores of a block of queries stay in the cache between the two products.

    for each matrix of the batch (and part of its queries), in parallel:
        keys[panel, k, w] = k[panel · width + w, k]            transposed once, unless read where they lie
        for each block of queries:
            q[r, k]                                             copied
            for each panel, each tile of rows:                  sums in registers
                scores[r, j] = logits(Σ_k q[r, k] · keys[panel, k, j])
            for each row: m = max_j; e[r, j] = exp(scores[r, j] − m); inverse[r] = 1 / Σ_j e[r, j]
            for each tile of rows and columns:                  sums in registers
                y[r, c] = inverse[r] · Σ_j e[r, j] · v[j, c]

Dividing last costs one product per result instead of one per probability, as in FlashAttention (Dao et al., NeurIPS
2022). The last panel, block and tile overlap the one before it, so that all are whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.attention_formulas import Formula
from edgeir.schedules.attention_problem import Attention
from edgeir.schedules.attention_rows import normalise_row
from edgeir.schedules.sparse_arguments import store_vector, vector_at, whole
from edgeir.schedules.sparse_transpose import QUARTER, SIDE, transpose
from edgeir.schedules.tir_types import AnyBuffer, Expression


@dataclass(frozen=True)
class AttentionTile:
    """How the loops are cut.

    Attributes:
        block: queries whose scores are kept at a time.
        score_rows, score_vectors: register tile of the first product.
        value_rows, value_vectors: register tile of the second product.
        pack_keys: whether keys are copied together before they are used.
        pack_values: the same of values.
        pieces: parts of the queries of one matrix that threads may compute at the same time.
        parallel: whether threads share the work.
    """

    block: int
    score_rows: int
    score_vectors: int
    value_rows: int
    value_vectors: int
    pack_keys: bool
    pack_values: bool
    pieces: int
    parallel: bool


def workspace_of(problem: Attention, tile: AttentionTile, lanes: int) -> int:
    """Bytes that one thread needs."""
    width = tile.score_vectors * lanes
    keys = -(-problem.keys // width) * width * problem.depth if tile.pack_keys else 0
    values = problem.keys * problem.columns if tile.pack_values else 0
    row = -(-problem.keys // lanes) * lanes + problem.depth + 1
    return 4 * (keys + values + tile.block * row + SIDE * problem.depth)


def _buffer(elements: int) -> AnyBuffer:
    return T.alloc_buffer((elements,), "float32", layout=None)


def _zeros(lanes: int) -> Expression:
    return tirx.Broadcast(tirx.FloatImm("float32", 0.0), whole(lanes))


class AttentionLoops:
    """Writes the loops with TVM's IR builder.

    Args:
        problem: the attention.
        tile: how the loops are cut.
        lanes: elements of a vector.
        formulas: of `query`, `key`, `value` and `logits`.
        output: the output's buffer.
    """

    def __init__(
        self, problem: Attention, tile: AttentionTile, lanes: int, formulas: Mapping[str, Formula], output: AnyBuffer
    ) -> None:
        self.problem, self.tile, self.lanes, self.formulas, self.output = problem, tile, lanes, formulas, output
        self.width = tile.score_vectors * lanes
        self.panels = -(-problem.keys // self.width)
        self.stride = -(-problem.keys // lanes) * lanes
        self.batch: list[Any] = []
        self.keys: AnyBuffer = None
        self.values: AnyBuffer = None
        self.queries: AnyBuffer = None
        self.scores: AnyBuffer = None
        self.inverse: AnyBuffer = None

    def emit(self) -> None:
        """The whole kernel."""
        problem, tile = self.problem, self.tile
        groups, blocks = math.prod(problem.batch), -(-problem.queries // tile.block)
        each, extent = -(-blocks // tile.pieces), math.prod(problem.batch) * tile.pieces
        with T.parallel(0, extent) if tile.parallel and extent > 1 else T.serial(0, extent) as unit:
            group = T.bind(tirx.floordiv(unit, tile.pieces)) if tile.pieces > 1 else unit
            self.batch = self._batch_index(group if groups > 1 else 0)
            if tile.pack_keys:
                self.keys = _buffer(self.panels * problem.depth * self.width)
                self._pack_keys()
            if tile.pack_values:
                self.values = _buffer(problem.keys * problem.columns)
                self._copy(self.values, problem.keys, problem.columns, self.formulas["value"], 0)
            self.queries = _buffer(tile.block * problem.depth)
            self.scores = _buffer(tile.block * self.stride)
            self.inverse = _buffer(tile.block)
            with T.serial(0, each) as index:
                number = tirx.floormod(unit, tile.pieces) * each + index if tile.pieces > 1 else index
                self._block(T.bind(tirx.min(number * tile.block, problem.queries - tile.block)))

    def _batch_index(self, group: Any) -> list[Any]:
        found, inner = [], math.prod(self.problem.batch)
        for axis, extent in enumerate(self.problem.batch):
            inner //= extent
            part = group if inner == 1 else tirx.floordiv(group, inner)
            outermost = all(size == 1 for size in self.problem.batch[:axis])
            found.append(0 if extent == 1 else T.bind(part if outermost else tirx.floormod(part, extent)))
        return found

    def _vectors(self, extent: int, emit: Callable[[Any, int], None]) -> None:
        """Covers 0 … extent with vectors; the last one overlaps the one before it."""
        lanes = min(self.lanes, extent)
        if extent == lanes:
            emit(0, lanes)
            return
        with T.serial(0, -(-extent // lanes)) as index:
            emit(tirx.min(index * lanes, extent - lanes) if extent % lanes else index * lanes, lanes)

    def _copy(self, target: AnyBuffer, rows: int, columns: int, formula: Formula, first: Any) -> None:
        """target[r, c] = formula(first + r, c)."""
        with T.serial(0, rows) as row:

            def vector(start: Any, lanes: int) -> None:
                with T.vectorized(0, lanes) as lane:
                    value = formula.at([*self.batch, first + row, start + lane])
                    T.buffer_store(target, value, [row * columns + start + lane])

            if formula.contiguous(len(self.batch) + 1):
                self._vectors(columns, vector)
            else:
                with T.serial(0, columns) as column:
                    T.buffer_store(target, formula.at([*self.batch, first + row, column]), [row * columns + column])

    def _pack_keys(self) -> None:
        problem, formula, width = self.problem, self.formulas["key"], self.width
        depth, side = problem.depth, min(SIDE, self.lanes)
        with T.serial(0, self.panels) as panel:
            start = T.bind(self._panel_start(panel))
            to = T.bind(panel * (depth * width))
            if formula.contiguous(len(self.batch)):
                vectors = self.tile.score_vectors
                with T.serial(0, depth) as k, T.serial(0, vectors) as v, T.vectorized(0, self.lanes) as lane:
                    column = v * self.lanes + lane
                    T.buffer_store(self.keys, formula.at([*self.batch, start + column, k]), [to + k * width + column])
                return
            if depth < side or not formula.contiguous(len(self.batch) + 1):
                with T.serial(0, depth) as k, T.serial(0, width) as column:
                    T.buffer_store(self.keys, formula.at([*self.batch, start + column, k]), [to + k * width + column])
                return
            staged = _buffer(side * depth)
            with T.serial(0, width // side) as square:
                self._copy(staged, side, depth, formula, start + square * side)
                with T.serial(0, -(-depth // side)) as part:
                    k = T.bind(tirx.min(part * side, depth - side))
                    place = T.bind(to + k * width + square * side)
                    transpose(
                        side,
                        lambda row, column: vector_at(staged, k + (row * depth + column), QUARTER),
                        lambda column, value: store_vector(self.keys, place + column * width, value, side),
                    )

    def _panel_start(self, panel: Any) -> Any:
        keys = self.problem.keys
        return tirx.min(panel * self.width, keys - self.width) if keys % self.width else panel * self.width

    def _block(self, first: Expression) -> None:
        """The results of the queries first … first + block."""
        problem, tile = self.problem, self.tile
        self._copy(self.queries, tile.block, problem.depth, self.formulas["query"], first)
        if problem.keys % self.lanes:
            # What sticks out of a row counts for nothing; the scores beside it are written after this.
            with T.serial(0, tile.block) as row:
                lowest = tirx.Broadcast(tirx.FloatImm("float32", -math.inf), whole(self.lanes))
                store_vector(self.scores, (row + 1) * self.stride - self.lanes, lowest, self.lanes)
        with T.serial(0, self.panels) as panel:
            start = T.bind(self._panel_start(panel))
            self._row_tiles(tile.score_rows, lambda row: self._score_tile(first, row, panel, start))
        with T.serial(0, tile.block) as row:
            normalise_row(self.scores, row * self.stride, self.stride, self.lanes, self.inverse, row, problem.guard)
        width = tile.value_vectors * self.lanes
        count = -(-problem.columns // width)

        def columns(row: Expression) -> None:
            with T.serial(0, count) as part:
                self._value_tile(first, row, T.bind(tirx.min(part * width, problem.columns - width)))

        self._row_tiles(tile.value_rows, columns)

    def _row_tiles(self, rows: int, emit: Callable[[Expression], None]) -> None:
        block = self.tile.block
        with T.serial(0, -(-block // rows)) as index:
            emit(T.bind(tirx.min(index * rows, block - rows) if block % rows else index * rows))

    def _tile(self, rows: int, vectors: int) -> list[list[AnyBuffer]]:
        """A buffer for each register of sums: small ones are what LLVM keeps in registers."""
        sums = [[_buffer(self.lanes) for _ in range(vectors)] for _ in range(rows)]
        for row in sums:
            for accumulator in row:
                store_vector(accumulator, 0, _zeros(self.lanes), self.lanes)
        return sums

    def _accumulate(
        self, sums: Sequence[Sequence[AnyBuffer]], left: Sequence[Expression], right: Sequence[Expression]
    ) -> None:
        """Adds the products of a number of each row and a vector of each column."""
        lanes = self.lanes
        vectors = [T.bind(vector) for vector in right]
        for row, number in zip(sums, left, strict=True):
            factor = tirx.Broadcast(T.bind(number), whole(lanes))
            for accumulator, vector in zip(row, vectors, strict=True):
                store_vector(accumulator, 0, vector_at(accumulator, 0, lanes) + factor * vector, lanes)

    def _score_tile(self, first: Expression, row: Expression, panel: Any, start: Expression) -> None:
        tile, lanes, depth = self.tile, self.lanes, self.problem.depth
        sums = self._tile(tile.score_rows, tile.score_vectors)
        base = T.bind(panel * (depth * self.width)) if tile.pack_keys else None

        def keys(k: Any, v: int) -> Expression:
            if base is None:
                return self.formulas["key"].vector([*self.batch, start + v * lanes, k], lanes)
            return vector_at(self.keys, base + k * self.width + v * lanes, lanes)

        with T.serial(0, depth) as k:
            self._accumulate(
                sums,
                [tirx.BufferLoad(self.queries, [(row + i) * depth + k]) for i in range(tile.score_rows)],
                [keys(k, v) for v in range(tile.score_vectors)],
            )
        logits = self.formulas["logits"]
        for i, accumulators in enumerate(sums):
            for v, accumulator in enumerate(accumulators):
                with T.vectorized(0, lanes) as lane:
                    column = start + v * lanes + lane
                    index = [*self.batch, first + row + i, column]
                    value = logits.at(index, tirx.BufferLoad(accumulator, [lane]))
                    T.buffer_store(self.scores, value, [(row + i) * self.stride + column])

    def _value_tile(self, first: Expression, row: Expression, start: Expression) -> None:
        problem, tile, lanes = self.problem, self.tile, self.lanes
        sums = self._tile(tile.value_rows, tile.value_vectors)

        def values(key: Any, v: int) -> Expression:
            if tile.pack_values:
                return vector_at(self.values, key * problem.columns + start + v * lanes, lanes)
            return self.formulas["value"].vector([*self.batch, key, start + v * lanes], lanes)

        with T.serial(0, problem.keys) as key:
            self._accumulate(
                sums,
                [tirx.BufferLoad(self.scores, [(row + i) * self.stride + key]) for i in range(tile.value_rows)],
                [values(key, v) for v in range(tile.value_vectors)],
            )
        for i, accumulators in enumerate(sums):
            inverse = T.bind(tirx.BufferLoad(self.inverse, [row + i]))
            for v, accumulator in enumerate(accumulators):
                with T.vectorized(0, lanes) as lane:
                    index = [*self.batch, first + row + i, start + v * lanes + lane]
                    value = tirx.BufferLoad(accumulator, [lane]) * inverse
                    T.buffer_store(self.output, value, [index[axis] for axis in problem.order])
