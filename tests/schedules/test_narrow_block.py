"""Half vectors for a ragged last channel block; threads that share the rows of a depthwise convolution."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeir.schedules.conv_depthwise import ConvDepthwise
from edgeir.schedules.conv_pointwise import ConvPointwise
from edgeir.schedules.conv_problem import conv_problem
from edgeir.schedules.narrow_block import only_halves, used_lanes
from edgeir.targets import lookup
from tests.schedules.assembly import assembly, hot_block
from tests.schedules.conv_task import check_case, conv_task
from tests.schedules.test_conv_templates import AVX2, AVX512, runs_here, square


@pytest.mark.parametrize(("channels", "lanes"), [(24, 8), (33, 8), (8, 8), (25, 16), (32, 16)])
@pytest.mark.parametrize("epilogue", ["relu6", "residual"])
def test_a_ragged_last_block_on_avx512(channels: int, lanes: int, epilogue: str) -> None:
    case = square(20, channels, 9, 1, in_block=16, out_block=16, epilogue=epilogue)
    assert used_lanes(conv_problem(conv_task(case)), AVX512) == lanes
    check_case(ConvPointwise(), case, AVX512, run=runs_here(AVX512))


SPLIT = replace(AVX512, unit_bits=256)
"""Executes vectors of 512 bits in halves."""


@pytest.mark.parametrize(("channels", "blocks", "pixels"), [(24, 2, 9), (8, 1, 30), (40, 3, 5), (56, 4, 3)])
def test_half_vectors_alone_where_units_split_vectors(channels: int, blocks: int, pixels: int) -> None:
    case = square(20, channels, 9, 1, in_block=16, out_block=16, epilogue="relu6")
    config = ConvPointwise().default(conv_task(case), SPLIT)
    assert (config["blocks"], config["tile_pixels"]) == (blocks, pixels)
    check_case(ConvPointwise(), case, SPLIT, config, run=runs_here(SPLIT))


def test_many_blocks_keep_whole_vectors() -> None:
    assert only_halves(4, SPLIT) and not only_halves(5, SPLIT) and not only_halves(2, AVX512)


def test_the_hot_loop_of_half_vectors_spills_nothing() -> None:
    machine = replace(lookup("x86-64-v4"), unit_bits=256)
    loop = hot_block(assembly(square(96, 24, 56, 1, in_block=16, out_block=16), ConvPointwise(), machine))
    assert all(line.count("%ymm") == 3 for line in loop.fmas) and len(loop.fmas) == len(loop.accumulators) >= 24
    assert loop.spills == []


def test_vectors_of_256_bits_are_not_halved() -> None:
    case = square(20, 20, 9, 1, in_block=8, out_block=8)
    assert used_lanes(conv_problem(conv_task(case)), AVX2) == 8


def test_the_hot_loop_multiplies_half_vectors_and_spills_nothing() -> None:
    case = square(96, 24, 56, 1, in_block=16, out_block=16, epilogue="relu6")
    loop = hot_block(assembly(case, ConvPointwise(), lookup("x86-64-v4")))
    whole = [line for line in loop.fmas if line.count("%zmm") == 3]
    half = [line for line in loop.fmas if line.count("%ymm") == 3]
    assert len(whole) == len(half) == len(loop.accumulators) // 2 > 0
    assert loop.spills == [] and len(loop.fmas) >= 0.4 * len(loop.instructions)


@pytest.mark.parametrize("padding", ["inline", "copy"])
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_share_the_rows_of_a_depthwise_convolution(padding: str, stride: int) -> None:
    case = square(20, 20, 14 * stride, 3, stride, groups=20, in_block=8, out_block=8, epilogue="relu6")
    template = ConvDepthwise()
    default = template.default(conv_task(case), AVX2)
    assert default["band_rows"] == 7
    assert template.default(conv_task(case), replace(AVX2, cores=1))["band_rows"] == 14
    check_case(template, case, AVX2, {**default, "padding": padding}, run=runs_here(AVX2))
