"""The loops of a product with a sparse matrix: vectors of positions, sums in registers.

The method of Elsen, Dukhan, Gale and Simonyan, "Fast Sparse ConvNets" (CVPR 2020), for activations in channel blocks:

    for each tile of positions:
        slab[k, p] = x[p, k]                                 transposed, unless x already lies so
        for each block of outputs:
            for each row r of the block:
                acc[0 … vectors] = 0                         registers
                for each pair of nonzeros (a, v), (b, w) of the row:
                    acc += v * slab[a];  acc += w * slab[b]
                sums[r, p] = acc
            y[p, r] = epilogue(sums[r, p])                   transposed, unless y lies otherwise

A nonzero costs one multiply-add and one load per vector of the tile; its value and index are loaded once for all of
them. The loads of the slab are memory operands of the multiply-adds where the machine has such. Keeping the slab of
several tiles, so that a row comes several times in succession, costs more in cache misses than it gains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.sparse_arguments import SparseArguments, store_vector, vector_at, whole
from edgeir.schedules.sparse_epilogue import Epilogue, with_loops
from edgeir.schedules.sparse_problem import SparseProblem
from edgeir.schedules.sparse_transpose import QUARTER, SIDE, transpose
from edgeir.schedules.tir_types import AnyBuffer, AnyFunc, Expression


@dataclass(frozen=True)
class SparseTile:
    """How the loops are cut.

    Attributes:
        vectors: vectors of positions of a tile; as many sums are kept in registers.
        pieces: parts of the outputs that threads may compute at the same time.
        parallel: whether threads share the work.
    """

    vectors: int
    pieces: int
    parallel: bool


def slab_rows(problem: SparseProblem) -> int:
    """Rows of the transposed input: whole blocks, where the input is blocked."""
    return -(-problem.depth // problem.read_inner) * problem.read_inner


def workspace_of(problem: SparseProblem, tile: SparseTile) -> int:
    """Bytes of one thread's transposed input and sums."""
    width = tile.vectors * problem.lanes
    slab = 0 if problem.read == "planes" else slab_rows(problem) * width
    return 4 * (slab + problem.lanes * width)


def sparse_product(problem: SparseProblem, tile: SparseTile, epilogue: Epilogue, x: int) -> AnyFunc:
    """The kernel.

    Args:
        problem: the product.
        tile: how the loops are cut.
        epilogue: the formula of an output element.
        x: index of the activation's operand.
    """
    return with_loops(epilogue.func, _Product(problem, tile, epilogue, x).emit)


class _Product(SparseArguments):
    """Writes the loops."""

    def __init__(self, problem: SparseProblem, tile: SparseTile, epilogue: Epilogue, x: int) -> None:
        super().__init__(problem, epilogue, x)
        self.tile = tile
        self.image: Expression = 0
        self.group: Expression = 0
        self.slab: AnyBuffer = None
        self.sums: AnyBuffer = None
        self.lanes, self.vectors = problem.lanes, tile.vectors
        self.width = self.lanes * self.vectors
        self.side = min(SIDE, self.lanes)

    def emit(self) -> None:
        problem, tile = self.problem, self.tile
        tiles = -(-problem.groups // tile.vectors)
        blocks = -(-problem.blocks // tile.pieces)
        extent = problem.images * tiles * tile.pieces
        with T.parallel(0, extent) if tile.parallel and extent > 1 else T.serial(0, extent) as piece:
            self.image = T.bind(tirx.floordiv(piece, tiles * tile.pieces))
            number = tirx.floormod(tirx.floordiv(piece, tile.pieces), tiles)
            # A tile reaches beyond the image only where the whole image is less than one tile.
            self.group = T.bind(tirx.min(number * tile.vectors, max(0, problem.groups - tile.vectors)))
            first = tirx.floormod(piece, tile.pieces) * blocks
            whole = problem.blocks % tile.pieces == 0
            count = blocks if whole else tirx.max(tirx.min(blocks, problem.blocks - first), 0)
            self.fill_slab()
            self.sums = T.alloc_buffer((self.lanes * self.width,), "float32", layout=None)
            with T.serial(0, count) as index:
                self.block(T.bind(first + index))

    def position(self, vector: Expression) -> Expression:
        """The first position of a vector of the tile; the last vector of an image overlaps the one before it."""
        return tirx.min((self.group + vector) * self.lanes, self.problem.positions - self.lanes)

    def fill_slab(self) -> None:
        """Transposes the tile's input, or finds out where it lies."""
        problem, lanes, side = self.problem, self.lanes, self.side
        if problem.read == "planes":
            self.slab = self.x
            return
        rows, inner = slab_rows(problem), problem.read_inner
        self.slab = T.alloc_buffer((rows * self.width,), "float32", layout=None)
        blocks, parts, halves = rows // inner, -(-inner // side), lanes // side
        with T.serial(0, blocks) as block, T.serial(0, self.width // side) as square, T.serial(0, parts) as part:
            first = part * side if inner % side == 0 else tirx.min(part * side, inner - side)
            pixel = self.position(square // halves) + square % halves * side
            start = T.bind(((self.image * blocks + block) * problem.positions + pixel) * inner + first)
            to = T.bind((block * inner + first) * self.width + square * side)

            def load(row: int, column: int) -> Expression:
                return vector_at(self.x, start + (row * inner + column), QUARTER)

            def store(column: int, value: Expression) -> None:
                store_vector(self.slab, to + column * self.width, value, side)

            transpose(side, load, store)

    def block(self, block: Expression) -> None:
        """The sums of a block of outputs, and its results."""
        problem, lanes = self.problem, self.lanes
        short = problem.outputs % lanes
        rows: Any = lanes
        if short and not problem.blocked_output:
            rows = tirx.min(lanes, problem.outputs - block * lanes)
        with T.serial(0, rows) as row:
            self.row(block * lanes + row, row)
        if problem.write == "planes":
            with T.serial(0, rows) as row, T.serial(0, self.vectors) as v:
                self.write_plane(block * lanes + row, row, v)
            return
        with T.serial(0, self.vectors) as v:
            if not short or problem.blocked_output:
                self.write_vectors(block, v)
                return
            with T.If((block + 1) * lanes <= problem.outputs):
                with T.Then():
                    self.write_vectors(block, v)
                with T.Else(), T.serial(0, lanes) as pixel, T.serial(0, short) as row:
                    value = tirx.BufferLoad(self.sums, [row * self.width + v * lanes + pixel])
                    self.write(self.image, block * lanes + row, self.position(v) + pixel, value)

    def row(self, row: Expression, place: Expression) -> None:
        """The sums of one output over the tile."""
        lanes, width = self.lanes, self.width
        acc = T.alloc_buffer((width,), "float32", layout=None)
        for v in range(self.vectors):
            store_vector(acc, v * lanes, tirx.Broadcast(tirx.FloatImm("float32", 0.0), whole(lanes)), lanes)
        if self.problem.read == "planes":
            base = self.image * (self.problem.depth * self.problem.positions)
            offsets = [T.bind(base + self.position(v)) for v in range(self.vectors)]
            stride = self.problem.positions
        else:
            offsets, stride = [v * lanes for v in range(self.vectors)], width
        with T.serial(self.integer(row), self.integer(row + 1)) as pair:
            for index, value in self.nonzeros(pair):
                column, weight = T.bind(index * stride), tirx.Broadcast(value, whole(lanes))
                for v, offset in enumerate(offsets):
                    total = vector_at(acc, v * lanes, lanes) + weight * vector_at(self.slab, column + offset, lanes)
                    store_vector(acc, v * lanes, total, lanes)
        for v in range(self.vectors):
            store_vector(self.sums, place * width + v * lanes, vector_at(acc, v * lanes, lanes), lanes)

    def write_vectors(self, block: Expression, v: Expression) -> None:
        """The results of one vector of positions and one block of outputs: vectors of outputs for each position."""
        lanes, side = self.lanes, self.side
        halves = lanes // side
        with T.serial(0, halves) as half, T.serial(0, halves) as part:
            pixel = T.bind(self.position(v) + half * side)
            start = T.bind(part * (side * self.width) + v * lanes + half * side)
            turned = T.alloc_buffer((side * QUARTER,), "float32", layout=None)

            def load(row: int, column: int) -> Expression:
                return vector_at(self.sums, start + (row * self.width + column), QUARTER)

            def store(column: int, value: Expression) -> None:
                store_vector(turned, column % QUARTER * side, value, side)
                with T.vectorized(0, side) as lane:
                    total = tirx.BufferLoad(turned, [column % QUARTER * side + lane])
                    channel = part * side + lane
                    output = (block, channel) if self.problem.blocked_output else block * lanes + channel
                    self.write(self.image, output, pixel + column, total)

            transpose(side, load, store)

    def write_plane(self, output: Expression, row: Expression, v: Expression) -> None:
        """The results of one vector of positions of one output."""
        pixel = T.bind(self.position(v))
        with T.vectorized(0, self.lanes) as lane:
            value = tirx.BufferLoad(self.sums, [row * self.width + v * self.lanes + lane])
            self.write(self.image, output, pixel + lane, value)
