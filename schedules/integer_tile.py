"""Register tiles of integer kernels, computed from the inner product's instructions and the target's registers."""

from __future__ import annotations

import math

from edgeir.schedules.dot_intrinsics import DotProduct
from edgeir.schedules.register_tile import (
    LOAD_OVERHEAD,
    STACK_LIMIT,
    STEP_OVERHEAD,
    RegisterTile,
    divisors,
    is_x86,
    loads_per_cycle,
)
from edgeir.targets.target import Target


def dot_tile_fits(pixels: int, vectors: int, dot: DotProduct, target: Target) -> bool:
    """Whether a tile's sums can be kept in registers, and in a stack buffer until LLVM puts them there.

    All weights of a step are held, and one broadcast quad; where quads are not broadcast by their load, LLVM loads all
    of a step before it.
    """
    quads = 1 if is_x86(target) else pixels + 1
    needed = pixels * vectors + vectors * dot.weight_registers + quads + dot.temporaries
    return needed <= target.vector_registers and pixels * vectors * dot.lanes * 4 < STACK_LIMIT


def dot_step_cycles(pixels: int, vectors: int, dot: DotProduct, target: Target) -> float:
    """Cycles for one quad of the reduction on a tile: bound by arithmetic, latency or loads."""
    weights = vectors * (dot.weight_registers - 1) * 1.5
    arithmetic = pixels * (vectors * dot.instructions + dot.per_quad) + weights
    loads = pixels + vectors
    # Where products are added by an instruction of their own, only that one waits for the sums.
    latency = target.fma_latency if dot.instructions == 1 else 1
    bound = max(arithmetic / target.fma_per_cycle, float(latency), loads / loads_per_cycle(target))
    return bound + STEP_OVERHEAD + LOAD_OVERHEAD * loads


def dot_total_cycles(
    rows: int, columns: int, blocks: int, tile: RegisterTile, dot: DotProduct, target: Target
) -> float:
    """Cycles for one quad summed over all tiles of an output of `rows` x `columns` pixels and `blocks` blocks."""
    total = 0.0
    for row_count, row_extent in _pieces(rows, tile.rows):
        for column_count, column_extent in _pieces(columns, tile.columns):
            cycles = dot_step_cycles(row_extent * column_extent, tile.blocks, dot, target)
            total += row_count * column_count * cycles
    return total * math.ceil(blocks / tile.blocks)


def _pieces(extent: int, tile: int) -> list[tuple[int, int]]:
    pieces = [(extent // tile, tile), (1, extent % tile)]
    return [(count, size) for count, size in pieces if count and size]


def choose_dot_tile(
    rows: int, columns: int, blocks: int, dot: DotProduct, target: Target, max_rows: int = 1, max_columns: int = 64
) -> RegisterTile:
    """The register tile with the fewest cycles for an output of `rows` x `columns` pixels and `blocks` vectors.

    Only a tile of whole rows spans several rows; the tile's `blocks` divides `blocks`.
    """
    best, best_key = RegisterTile(1, 1, 1), (math.inf, 0)
    for tile_blocks in divisors(blocks, 8):
        for tile_rows in range(1, min(rows, max_rows) + 1):
            for tile_columns in range(1, min(columns, max_columns) + 1):
                pixels = tile_rows * tile_columns
                if pixels > 1 and not dot_tile_fits(pixels, tile_blocks, dot, target):
                    break
                if tile_rows > 1 and tile_columns < columns:
                    continue
                tile = RegisterTile(tile_rows, tile_columns, tile_blocks)
                key = (dot_total_cycles(rows, columns, blocks, tile, dot, target), -pixels)
                if key < best_key:
                    best, best_key = tile, key
    return best
