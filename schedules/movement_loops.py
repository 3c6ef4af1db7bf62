"""The loops of a movement: tile by tile, vectors are read, rearranged in registers, computed on and written."""

from __future__ import annotations

import math
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.script.ir_builder import tirx as T
from tvm.sym import Analyzer

from edgeir.schedules.attention_formulas import substituted
from edgeir.schedules.movement_formula import Branch, Leaf, Movement, address, same_load
from edgeir.schedules.movement_tile import Gather, Tile
from edgeir.schedules.sparse_arguments import store_vector, vector_at, whole
from edgeir.schedules.sparse_epilogue import with_loops
from edgeir.schedules.tir_types import AnyFunc, Expression
from edgeir.schedules.vector_math import vectorizable_math

# Pieces of work per thread, so that one which is held up does not hold up the others.
_PIECES = 8


def movement_loops(movement: Movement, tile: Tile, threads: int) -> AnyFunc:
    """The kernel.

    Args:
        movement: what it computes.
        tile: how.
        threads: that share the tiles; 1 for a serial loop.
    """
    return vectorizable_math(with_loops(movement.func, _Loops(movement, tile, threads).emit))


class _Loops:
    """Writes the loops."""

    def __init__(self, movement: Movement, tile: Tile, threads: int) -> None:
        self.movement, self.tile, self.threads = movement, tile, threads
        self.analyzer = Analyzer()
        self.place: list[Expression] = []
        self.leaf = 0

    def emit(self) -> None:
        sides, extents = self.tile.sides, self.movement.extents
        counts = [-(-extent // side) for extent, side in zip(extents, sides, strict=True)]
        shared = 0
        if self.threads > 1:
            while shared < len(counts) and math.prod(counts[:shared]) < _PIECES * self.threads:
                shared += 1
        pieces = math.prod(counts[:shared])
        if pieces > 1:
            with T.parallel(0, pieces) as piece:
                numbers = []
                for axis in range(shared):
                    inner = math.prod(counts[axis + 1 : shared])
                    number = tirx.floormod(tirx.floordiv(piece, whole(inner)), whole(counts[axis]))
                    numbers.append(self.bounded(T.bind(number), counts[axis]))
                self.tiles(numbers, counts)
        else:
            self.tiles([], counts)

    def bounded(self, variable: Any, count: int) -> Any:
        self.analyzer.bind(variable, Range.from_min_extent(whole(0), whole(count)))
        return variable

    def tiles(self, numbers: list[Any], counts: list[int]) -> None:
        """The loops over the axes that are left, and what runs in them."""
        if len(numbers) < len(counts):
            count = counts[len(numbers)]
            if count == 1:
                self.tiles([*numbers, whole(0)], counts)
                return
            with T.serial(0, count) as number:
                self.tiles([*numbers, self.bounded(number, count)], counts)
            return
        self.place = []
        for number, side, extent in zip(numbers, self.tile.sides, self.movement.extents, strict=True):
            start = number * side
            if extent % side:
                start = self.bounded(T.bind(tirx.min(start, whole(extent - side))), extent - side + 1)
            self.place.append(start)
        self.leaf = 0
        self.branch(self.movement.root)

    def at(self, expression: Expression) -> Expression:
        """An expression of a position where the tile begins."""
        return self.analyzer.simplify(substituted(expression, self.movement.axes, self.place))

    def branch(self, node: Branch | Leaf) -> None:
        if isinstance(node, Leaf):
            gathers = self.tile.gathers[self.leaf]
            self.leaf += 1
            if gathers is None:
                T.evaluate(0)  # no tile lies here
            else:
                self.write(node, gathers)
            return
        with T.If(self.at(node.condition)):
            with T.Then():
                self.branch(node.yes)
            with T.Else():
                self.branch(node.no)

    def write(self, leaf: Leaf, gathers: tuple[Gather, ...]) -> None:
        """One tile."""
        lanes, movement = self.tile.lanes, self.movement
        columns = [self.vectors(load, gather) for load, gather in zip(leaf.loads, gathers, strict=True)]
        flat: Any = whole(0)
        for start, extent in zip(self.place, movement.extents, strict=True):
            flat = flat * extent + start
        to = T.bind(self.analyzer.simplify(flat))
        only_moved = isinstance(leaf.value, TensorLoad)
        for number, distance in enumerate(self.tile.stores):
            if only_moved:
                store_vector(movement.output, to + distance, columns[0][number], lanes)
                continue
            # Buffers of one vector become registers; TVM takes long ones from the heap.
            held = [T.alloc_buffer((lanes,), str(load.ty), layout=None) for load in leaf.loads]
            for buffer, column in zip(held, columns, strict=True):
                store_vector(buffer, whole(0), column[number], lanes)
            with T.vectorized(0, lanes) as lane:
                rank = len(movement.output.shape)
                place = [*[whole(0)] * (rank - 1), to + distance + lane]
                T.buffer_store(movement.output, self.computed(leaf, held, lane), place)

    def computed(self, leaf: Leaf, held: list[Any], at: Expression) -> Expression:
        """The formula with elements from the buffers, one for each load."""

        def load(node: Any) -> Any:
            number = next((i for i, other in enumerate(leaf.loads) if same_load(node, other)), None)
            return node if number is None else tirx.BufferLoad(held[number], [at])

        return tvm_ffi.structural_map(leaf.value, ((TensorLoad, load),))

    def vectors(self, load: Any, gather: Gather) -> list[Expression]:
        """The tile's vectors of one load."""
        lanes = self.tile.lanes
        start = T.bind(self.at(address(load)))
        if gather.shuffles is None:
            rank = len(load.source.shape)
            made: dict[int, Any] = {}
            for apart in gather.scalars:
                if apart not in made:
                    element = tirx.BufferLoad(load.source, [*[whole(0)] * (rank - 1), start + apart])
                    made[apart] = T.bind(tirx.Broadcast(element, whole(lanes)))
            return [made[apart] for apart in gather.scalars]
        registers = [T.bind(vector_at(load.source, start + apart, lanes)) for apart in gather.starts]
        for shuffle in gather.shuffles.shuffles:
            left, right = registers[shuffle.left], registers[shuffle.right]
            pair = [left] if shuffle.left == shuffle.right else [left, right]
            registers.append(T.bind(tirx.Shuffle(pair, [whole(lane) for lane in shuffle.lanes])))
        return [registers[number] for number in gather.shuffles.results]
