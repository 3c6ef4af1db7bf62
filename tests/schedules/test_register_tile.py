"""Register tiles: they fit the registers, cover the latency, and follow the shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.schedules.register_tile import (
    STACK_LIMIT,
    choose_tile,
    divisors,
    fits_registers,
    registers_needed,
    total_cycles,
    vectors_per_block,
)
from edgeir.targets.target import Target

TARGETS = [
    Target("sse", "x86_64-linux-gnu", vector_bits=128, vector_registers=16),
    Target("avx2", "x86_64-linux-gnu", vector_bits=256, vector_registers=16, fma=True, fma_per_cycle=2),
    Target("avx512", "x86_64-linux-gnu", vector_bits=512, vector_registers=32, fma=True, fma_per_cycle=2),
    Target("neon", "aarch64-linux-gnu", vector_bits=128, vector_registers=32, fma=True),
]


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 130),
    blocks=st.integers(1, 40),
    block=st.sampled_from([4, 8, 16]),
    target=st.sampled_from(TARGETS),
    max_rows=st.integers(1, 2),
)
def test_tile_fits(rows: int, columns: int, blocks: int, block: int, target: Target, max_rows: int) -> None:
    tile = choose_tile(rows, columns, blocks, block, target, max_rows)
    assert 1 <= tile.rows <= min(rows, max_rows) and 1 <= tile.columns <= columns
    assert blocks % tile.blocks == 0
    vectors = tile.blocks * vectors_per_block(block, target)
    assert tile.rows * tile.columns == 1 or fits_registers(tile.rows * tile.columns, vectors, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_many_pixels_cover_the_latency(target: Target) -> None:
    tile = choose_tile(1, 5040, 6, target.lanes(32), target)
    assert tile.columns * tile.blocks >= target.fma_latency * target.fma_per_cycle


def test_a_tile_that_divides_the_pixels_beats_a_ragged_one() -> None:
    target = TARGETS[1]
    tile = choose_tile(1, 20, 2, 8, target)
    assert 20 % tile.columns == 0
    ragged = type(tile)(1, 6, 2)
    assert total_cycles(1, 20, 2, tile, 1, target) < total_cycles(1, 20, 2, ragged, 1, target)


def test_registers_of_the_known_avx2_tile() -> None:
    # 6 x 16 floats: 12 sums, 2 weights, 1 broadcast.
    assert registers_needed(6, 2, TARGETS[1]) == 15
    assert not fits_registers(7, 2, TARGETS[1])


def test_sums_stay_below_the_stack_limit() -> None:
    assert fits_registers(15, 1, TARGETS[2]) and STACK_LIMIT > 15 * 64
    assert not fits_registers(16, 1, TARGETS[2])


def test_divisors() -> None:
    assert divisors(12, 4) == [1, 2, 3, 4]
    assert divisors(7, 7) == [1, 7]
