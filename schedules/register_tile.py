"""Register tiles computed from a target's description: how many outputs of a kernel to keep in SIMD registers.

The inner kernels multiply one broadcast input element (per pixel) with vectors of weights (per channel vector). A tile
of `pixels` x `vectors` accumulators needs `pixels * vectors` registers for the sums, `vectors` for the weights and one
for the broadcast input. It runs at the FMA peak when it holds at least latency x issue-rate independent sums and
when its loads do not outnumber the load ports (the analysis of Goto and van de Geijn, "Anatomy of high-performance
matrix multiplication", ACM TOMS 34(3), 2008, and of Low et al., "Analytical modeling is enough for high-performance
BLIS", ACM TOMS 43(2), 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeir.targets.target import Target

STACK_LIMIT = 1024
"""Bytes from which TVM puts a temporary buffer on the heap (`kMaxStackAlloca`), where LLVM may fail to keep it in
registers."""

STEP_OVERHEAD = 0.5
"""Cycles of loop control for each step of the reduction: breaks ties in favour of larger tiles."""

LOAD_OVERHEAD = 0.05
"""Cycles that a load costs even where it is not the bottleneck: breaks ties in favour of squarer tiles."""


@dataclass(frozen=True)
class RegisterTile:
    """A tile of output kept in registers: `rows` x `columns` pixels of `blocks` channel blocks."""

    rows: int
    columns: int
    blocks: int


def vectors_per_block(block: int, target: Target, dtype_bits: int = 32) -> int:
    """SIMD registers that one channel block of `block` elements fills."""
    return max(1, math.ceil(block / target.lanes(dtype_bits)))


def is_x86(target: Target) -> bool:
    """Whether an input element is broadcast by its load, or is a memory operand."""
    return target.triple.startswith(("x86", "i386", "i486", "i586", "i686"))


def registers_needed(pixels: int, vectors: int, target: Target) -> int:
    """SIMD registers of a tile: sums, weights, the broadcast input, and a product where there is no FMA.

    Machines that multiply by a lane of a vector (NEON's `fmla v0.4s, v1.4s, v2.s[0]`) hold a vector of inputs for
    every pixel instead of one broadcast: LLVM unrolls the walk over a block's channels to load them so.
    """
    inputs = 1 if is_x86(target) else pixels + 1
    return pixels * vectors + vectors + inputs + (0 if target.fma else 1)


def fits_registers(pixels: int, vectors: int, target: Target) -> bool:
    """Whether a tile's sums can be kept in registers, and in a stack buffer until LLVM puts them there."""
    stack_bytes = pixels * vectors * max(4, target.vector_bits // 8)
    return registers_needed(pixels, vectors, target) <= target.vector_registers and stack_bytes < STACK_LIMIT


def loads_per_cycle(target: Target) -> int:
    """Loads issued per cycle: two on x86 cores since 2011, one on small and middle ARM cores."""
    return 2 if is_x86(target) else 1


def step_cycles(pixels: int, vectors: int, target: Target) -> float:
    """Cycles for one step of the reduction on a tile: bound by arithmetic, latency or loads.

    Without FMA a product takes two instructions, and (SSE) a broadcast takes a shuffle after its load.
    """
    multiplies = pixels * vectors
    arithmetic = multiplies if target.fma else 2 * multiplies + pixels
    loads = pixels + vectors
    bound = max(arithmetic / target.fma_per_cycle, float(target.fma_latency), loads / loads_per_cycle(target))
    return bound + STEP_OVERHEAD + LOAD_OVERHEAD * loads


def divisors(value: int, limit: int) -> list[int]:
    """The divisors of `value` up to `limit`, ascending."""
    return [d for d in range(1, min(value, limit) + 1) if value % d == 0]


def _pieces(extent: int, tile: int) -> list[tuple[int, int]]:
    """(how many, extent) of the full tiles and of the tail when `extent` is cut into tiles of `tile`."""
    pieces = [(extent // tile, tile), (1, extent % tile)]
    return [(count, size) for count, size in pieces if count and size]


def total_cycles(rows: int, columns: int, blocks: int, tile: RegisterTile, vectors: int, target: Target) -> float:
    """Cycles per reduction step summed over all tiles of an output of `rows` x `columns` pixels and `blocks` blocks."""
    total = 0.0
    for row_count, row_extent in _pieces(rows, tile.rows):
        for column_count, column_extent in _pieces(columns, tile.columns):
            cycles = step_cycles(row_extent * column_extent, tile.blocks * vectors, target)
            total += row_count * column_count * cycles
    return total * math.ceil(blocks / tile.blocks)


def choose_tile(
    rows: int, columns: int, blocks: int, block: int, target: Target, max_rows: int = 1, max_columns: int = 64
) -> RegisterTile:
    """The register tile with the fewest cycles for an output of `rows` x `columns` pixels.

    Args:
        rows: output rows (1 where the pixels are flattened).
        columns: output columns, or all pixels.
        blocks: channel blocks; the tile's `blocks` divides it.
        block: elements of a channel block.
        target: the machine.
        max_rows: the most rows that a tile may span. Only a tile of whole rows spans several.
        max_columns: the most columns of a tile.
    """
    vectors = vectors_per_block(block, target)
    best, best_key = RegisterTile(1, 1, 1), (math.inf, 0)
    for tile_blocks in divisors(blocks, 8):
        for tile_rows in range(1, min(rows, max_rows) + 1):
            for tile_columns in range(1, min(columns, max_columns) + 1):
                if tile_rows * tile_columns > 1 and not fits_registers(
                    tile_rows * tile_columns, tile_blocks * vectors, target
                ):
                    break
                if tile_rows > 1 and tile_columns < columns:
                    continue
                tile = RegisterTile(tile_rows, tile_columns, tile_blocks)
                key = (total_cycles(rows, columns, blocks, tile, vectors, target), -tile_rows * tile_columns)
                if key < best_key:
                    best, best_key = tile, key
    return best
