"""Winograd's convolution: half vectors for a ragged last channel block, its transforms, samples of its space."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import tvm

from edgeir.schedules.conv_problem import conv_problem
from edgeir.schedules.conv_winograd import ConvWinograd, product_tile
from edgeir.schedules.template import Config
from edgeir.targets import lookup
from edgeir.targets.target import Target
from tests.schedules.assembly import Block, assembly, loop_blocks
from tests.schedules.conv_task import ConvCase, check_case, compile_kernel, conv_task, kernel_arguments, to_plain
from tests.schedules.test_conv_templates import AVX2, AVX512, runs_here, square

SPLIT = replace(AVX512, unit_bits=256)
"""Executes vectors of 512 bits in halves."""

RAGGED = square(40, 24, 13, 3, in_block=16, out_block=16, epilogue="residual", batch=2, padding=(1, 0, 1, 2))


def default(case: ConvCase, target: Target) -> Config:
    return ConvWinograd().default(conv_task(case), target)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("target", [AVX512, SPLIT], ids=["whole_units", "split_units"])
@pytest.mark.parametrize("channels", [24, 40, 72])
def test_a_ragged_last_block_on_avx512(channels: int, target: Target, m: int) -> None:
    case = square(64, channels, 13, 3, in_block=16, out_block=16, epilogue="relu6")
    config = {**default(case, target), "m": m, "blocks": -(-channels // 16)}
    check_case(ConvWinograd(), case, target, config, run=runs_here(target))


def test_unused_lanes_hold_no_remains_of_the_workspace() -> None:
    """The second run finds workspace that the first one, whose input was NaN, left full of NaN."""
    if not runs_here(SPLIT):
        pytest.skip("this machine has no AVX-512")
    task, template = conv_task(RAGGED), ConvWinograd()
    kernel = template.apply(task, {**default(RAGGED, SPLIT), "blocks": 2}, SPLIT)
    run = compile_kernel(kernel, SPLIT)["conv_kernel"]
    arguments, expected = kernel_arguments(RAGGED, kernel)
    poisoned = [np.full_like(arguments[0], np.nan), *arguments[1:]]
    run(*[tvm.runtime.tensor(array) for array in poisoned])
    tensors = [tvm.runtime.tensor(array) for array in arguments]
    run(*tensors)
    assert np.isfinite(tensors[-1].numpy()).all()
    np.testing.assert_allclose(to_plain(tensors[-1].numpy(), 16, 24), expected, rtol=5e-4, atol=5e-4)


@pytest.mark.parametrize(("channels", "blocks", "pixels"), [(24, 2, 9), (40, 3, 5), (56, 4, 3)])
def test_the_register_tile_of_half_vectors(channels: int, blocks: int, pixels: int) -> None:
    case = square(96, channels, 80, 3, in_block=16, out_block=16)
    tile, cycles = product_tile(conv_problem(conv_task(case)), 9 * 7 * 5, SPLIT)
    assert (tile.blocks, tile.columns) == (blocks, pixels)
    config = default(case, SPLIT)
    assert config["blocks"] == blocks and int(config["tile_pixels"]) <= pixels
    assert cycles < product_tile(conv_problem(conv_task(case)), 9 * 7 * 5, AVX512)[1]


def test_half_vectors_are_estimated_as_a_quarter_less_work() -> None:
    problem = conv_problem(conv_task(square(96, 24, 80, 3, in_block=16, out_block=16)))
    ratio = product_tile(problem, 9 * 7, SPLIT)[1] / product_tile(problem, 9 * 7, AVX512)[1]
    assert 0.7 < ratio < 0.8


def test_the_hot_loop_of_half_vectors_spills_nothing() -> None:
    machine = replace(lookup("x86-64-v4"), unit_bits=256)
    case = square(96, 24, 80, 3, in_block=16, out_block=16)
    pixels = int(default(case, machine)["tile_pixels"])

    def halves(block: Block) -> int:
        return sum("%ymm" in line for line in block.fmas)

    loop = max(loop_blocks(assembly(case, ConvWinograd(), machine)), key=halves)
    assert halves(loop) == len(loop.fmas) > 0 and len(loop.accumulators) == 3 * pixels
    assert loop.spills == []


def test_one_row_at_a_time_is_the_default_with_wide_vectors_only() -> None:
    wide = square(64, 64, 28, 3, in_block=16, out_block=16)
    narrow = square(64, 64, 28, 3, in_block=8, out_block=8)
    assert default(wide, AVX512)["rows"] == "single" and default(narrow, AVX2)["rows"] == "all"


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("parallel", ["chunks", "stages"])
@pytest.mark.parametrize("rows", ["all", "single"])
def test_rows_of_a_tile_transformed_at_once(rows: str, parallel: str, m: int) -> None:
    case = square(40, 24, 13, 3, in_block=8, out_block=8, epilogue="hard_swish", batch=2, padding=(0, 2, 1, 0))
    config = {**default(case, AVX2), "m": m, "rows": rows, "parallel": parallel}
    check_case(ConvWinograd(), case, AVX2, config, run=runs_here(AVX2))


def sample(case: ConvCase, target: Target, count: int) -> list[Config]:
    """Seeded random configurations of the space."""
    space = ConvWinograd().space(conv_task(case), target)
    generator = random.Random(0)
    return [{knob: generator.choice(list(values)) for knob, values in space.items()} for _ in range(count)]


@pytest.mark.parametrize("config", sample(RAGGED, SPLIT, 10), ids=str)
def test_random_configurations(config: Config) -> None:
    check_case(ConvWinograd(), RAGGED, SPLIT, config, run=runs_here(SPLIT))


@pytest.mark.slow
@pytest.mark.parametrize("target", [AVX512, SPLIT], ids=["whole_units", "split_units"])
@pytest.mark.parametrize("config", sample(RAGGED, SPLIT, 24)[10:], ids=str)
def test_many_random_configurations(config: Config, target: Target) -> None:
    check_case(ConvWinograd(), RAGGED, target, config, run=runs_here(target))
