"""Which configurations are not worth compiling: their tile does not fit the registers, or their chunk the caches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeir.schedules.conv_problem import conv_problem
from edgeir.schedules.register_tile import STACK_LIMIT, vectors_per_block
from edgeir.schedules.template import Config
from edgeir.tuning.tasks import KernelTask

REGISTER_SLACK = 3
"""Registers beyond the target's that a tile may seem to need: LLVM folds loads of weights into arithmetic."""


@dataclass(frozen=True)
class Tile:
    """What a configuration keeps in registers and caches, as far as its knobs tell.

    Attributes:
        pixels: outputs along space, or rows of a product, that are summed at once.
        vectors: SIMD registers of channels, or of columns, that are summed at once.
        chunk_bytes: input that is walked over and over while weights change; 0 if the knobs do not say.
        waste: computed by needed outputs, for tiles that do not divide the output; at least 1.
    """

    pixels: int
    vectors: int
    chunk_bytes: int
    waste: float


def tile_of(task: KernelTask, template: str, config: Config) -> Tile | None:
    """The tile of a configuration; None for a template whose knobs have another meaning."""
    knobs: dict[str, Any] = dict(config)
    if task.task.anchor == "conv":
        problem = conv_problem(task.task)
        rows, columns = problem.out_spatial[0], problem.out_spatial[-1]
        if template == "conv_fallback":
            return None
        block = problem.out_block or task.target.lanes()
        vectors = vectors_per_block(block, task.target) * int(knobs.get("blocks", 1))
        if "tile_pixels" in knobs:
            pixels, chunk = int(knobs["tile_pixels"]), int(knobs.get("chunk_pixels", problem.pixels))
            return Tile(pixels, vectors, 4 * problem.in_group * chunk, _waste(chunk, pixels))
        if "tile_columns" in knobs:
            flat = knobs.get("walk") == "flat"
            height, width = int(knobs.get("tile_rows", 1)), int(knobs["tile_columns"])
            if flat:
                return Tile(width, vectors, 0, _waste(problem.pixels, width))
            return Tile(height * width, vectors, 0, _waste(rows, height) * _waste(columns, width))
    if "rows" in knobs and "vectors" in knobs:
        return Tile(int(knobs["rows"]), int(knobs["vectors"]), 0, 1.0)
    return None


def _waste(extent: int, tile: int) -> float:
    return -(-extent // tile) * tile / max(1, extent)


def is_hopeless(task: KernelTask, template: str, config: Config) -> bool:
    """Whether a configuration's tile spills from the registers, or its chunk from the second-level cache."""
    tile = tile_of(task, template, config)
    if tile is None:
        return False
    target = task.target
    needed = tile.pixels * tile.vectors + (0 if tile.vectors == 1 else 1)
    if tile.pixels > 1 and needed > target.vector_registers + REGISTER_SLACK:
        return True
    if tile.pixels * tile.vectors * max(4, target.vector_bits // 8) > 2 * STACK_LIMIT:
        return True
    cache = target.l2_bytes or target.l1_bytes
    return bool(cache) and tile.chunk_bytes > 2 * cache
