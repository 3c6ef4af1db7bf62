"""Weights fetched before they are read: what is fetched, where, and that the results stay."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad
from tvm.sym import Analyzer

from edgeir.schedules.analysis import call_name, nodes
from edgeir.schedules.conv_direct import ConvDirect
from edgeir.schedules.conv_pointwise import ConvPointwise
from edgeir.schedules.matmul_packed import MatmulPacked
from edgeir.schedules.prefetch import LINE, worth_prefetch
from edgeir.targets import lookup
from tests.schedules.assembly import Block, assembly, hot_block
from tests.schedules.conv_task import check_case, conv_task
from tests.schedules.tasks import matmul_task, run
from tests.schedules.test_conv_templates import AVX2, runs_here, square
from tests.schedules.test_matmul import WIDE

SMALL_CACHE = replace(AVX2, l1_bytes=512, cores=1)
"""Weights of a few kilobytes do not stay in its first-level cache."""

CASES = [
    square(20, 48, 9, 1, in_block=8, out_block=8, epilogue="relu6"),
    square(24, 33, 11, 1, in_block=8, out_block=8, epilogue="residual"),
    square(16, 64, 7, 1, in_block=8, out_block=8, groups=2),
]


def fetched_places(func: Any, weight: int) -> list[int]:
    """Where the fetches of the first panel point, in floats from the weights' start, in the order of the loops."""
    buffer = func.params[weight]
    panels = int(buffer.shape[0])  # counted by the outermost loop
    (call,) = (node for node in nodes(func) if isinstance(node, Call) and call_name(node) == "prefetch")
    load: Any = next(n for n in nodes(call) if isinstance(n, TensorLoad) and n.source.same_as(buffer))
    place = list(load.indices)[-1]
    variables = [node for node in nodes(place) if isinstance(node, tirx.Var)]
    loops: list[Any] = [
        node
        for node in reversed(list(nodes(func)))
        if isinstance(node, tirx.For) and any(node.loop_var.same_as(variable) for variable in variables)
    ]
    ranges = [range(int(loop.extent) // (1 if number else panels)) for number, loop in enumerate(loops)]
    return [_evaluated(place, list(zip(loops, values, strict=True))) for values in product(*ranges)]


def _evaluated(place: Any, bound: Sequence[tuple[Any, int]]) -> int:
    def value(variable: Any) -> Any:
        return next(tirx.IntImm(variable.ty, number) for loop, number in bound if variable.same_as(loop.loop_var))

    simple: Any = Analyzer().simplify(tvm_ffi.structural_map(place, ((tirx.Var, value),)))
    return int(simple)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_with_fetches_are_exact(case: Any, threads: int) -> None:
    template, task = ConvPointwise(), conv_task(case)
    target = SMALL_CACHE.with_cores(threads)
    config = {**template.default(task, target), "tile_pixels": 3, "blocks": 1}
    for fetched in (True, False):
        func = template.apply(task, {**config, "prefetch": fetched}, target).func
        assert ("T.prefetch" in func.script()) == fetched
        check_case(template, case, target, {**config, "prefetch": fetched}, run=runs_here(target))


@pytest.mark.parametrize("pixels", [1, 9, 27])
def test_the_tiles_of_a_panel_fetch_all_of_the_next_one_once(pixels: int) -> None:
    template, task = ConvPointwise(), conv_task(CASES[0])
    config = {"tile_pixels": pixels, "blocks": 1, "chunk_pixels": 81, "outer": "channels", "prefetch": True}
    func: Any = template.apply(task, config, replace(SMALL_CACHE, vector_registers=32)).func
    panel = math.prod(int(extent) for extent in func.params[1].shape[1:])
    places = fetched_places(func, 1)
    assert places == sorted(places) and places[0] == panel
    assert {place // LINE for place in places} >= {place // LINE for place in range(panel, 2 * panel)}
    # Not much beyond the panel: a float for each step of each tile.
    assert places[-1] < 2 * panel + len(places)


def walked(case: Any, **knobs: int | str | bool) -> tuple[Any, dict[str, int | str | bool]]:
    """A case and a config of `ConvDirect` that fetches."""
    default = ConvDirect().default(conv_task(case), SMALL_CACHE)
    return case, {**default, "tile_rows": 1, "tile_columns": 3, "blocks": 1, "prefetch": True, **knobs}


DIRECT = {
    "rows": walked(square(8, 32, 9, 3, in_block=8, out_block=8), outer="channels", walk="rows"),
    "rows_of_pixels": walked(square(8, 32, 9, 3, in_block=8, out_block=8), outer="pixels", walk="rows"),
    "ragged_rows": walked(square(8, 32, 9, 3, in_block=8, out_block=8), tile_rows=2, tile_columns=2, walk="rows"),
    "flat": walked(square(16, 40, 5, 3, in_block=8, out_block=8, epilogue="relu6"), outer="channels", walk="flat"),
    "strided": walked(square(8, 32, 15, 3, 2, in_block=8, out_block=8, epilogue="residual"), outer="channels"),
    "plain_output": walked(square(16, 20, 12, 3, in_block=8), walk="rows"),
    "groups_and_batch": walked(square(16, 32, 7, 3, in_block=8, out_block=8, groups=2, batch=2), outer="channels"),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", DIRECT)
def test_direct_convolutions_with_fetches_are_exact(name: str, threads: int) -> None:
    (case, config), target = DIRECT[name], SMALL_CACHE.with_cores(threads)
    assert "T.prefetch" in ConvDirect().apply(conv_task(case), config, target).func.script()
    check_case(ConvDirect(), case, target, config, run=runs_here(target))


@pytest.mark.parametrize("name", ["rows", "ragged_rows", "flat", "strided"])
def test_the_tiles_of_all_rows_share_the_fetches_of_a_panel(name: str) -> None:
    case, config = DIRECT[name]
    func: Any = ConvDirect().apply(conv_task(case), config, SMALL_CACHE).func
    panel = math.prod(int(extent) for extent in func.params[1].shape[1:])
    places = fetched_places(func, 1)
    assert places == sorted(places) and places[0] == panel
    assert {place // LINE for place in places} >= {place // LINE for place in range(panel, 2 * panel)}
    assert places[-1] < 2 * panel + len(places)


def test_chunks_of_pixels_share_the_fetches_of_a_panel() -> None:
    config = {"tile_pixels": 3, "blocks": 1, "chunk_pixels": 27, "outer": "channels", "prefetch": True}
    func: Any = ConvPointwise().apply(conv_task(CASES[0]), config, SMALL_CACHE).func
    panel = math.prod(int(extent) for extent in func.params[1].shape[1:])
    places = fetched_places(func, 1)
    assert places == sorted(places) and places[0] == panel and len(places) == len(set(places))
    assert places[-1] < 2 * panel + len(places)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "batch"), [(33, ()), (7, ()), (9, (3,))])
def test_products_with_fetches_are_exact(rows: int, batch: tuple[int, ...], threads: int) -> None:
    generator = np.random.default_rng(1)
    a, b = (generator.standard_normal((*batch, *shape)).astype("float32") for shape in ((rows, 40), (40, 70)))
    target = replace(WIDE, l1_bytes=1024, cores=threads)
    task, template = matmul_task(a.shape, b.shape, constant_b=True), MatmulPacked()
    config = {"rows": 3, "vectors": 1, "prefetch": True}
    kernel = template.apply(task, config, target)
    assert "T.prefetch" in kernel.func.script()
    (result,) = run(kernel, task, [a, b], target)
    np.testing.assert_allclose(result, a @ b, rtol=1e-4, atol=1e-4)


def test_where_it_pays() -> None:
    target = lookup("x86-64-v4").with_cores(1)
    floats = target.l1_bytes // 4
    assert worth_prefetch(2, 2, floats + 1, target)
    assert not worth_prefetch(2, 2, floats, target)  # stays in the first-level cache
    assert not worth_prefetch(1, 2, floats + 1, target)  # bound by memory
    assert not worth_prefetch(2, 1, floats + 1, target)  # nothing comes next
    assert worth_prefetch(2, 2, floats + 1, target.with_cores(2))


def test_the_knob_is_there_where_it_can_do_something() -> None:
    target = lookup("x86-64-v4")
    block = target.lanes(32)

    def choices(template: Any, task: Any, machine: Any = target) -> list[bool]:
        space, default = template.space(task, machine), template.default(task, machine)
        assert default["prefetch"] in space["prefetch"]
        return list(space["prefetch"])

    pointwise, direct = (square(160, 960, 7, kernel, in_block=block, out_block=block) for kernel in (1, 3))
    small = square(32, 64, 7, 1, in_block=block, out_block=block)
    for threads in (1, 2):
        machine = target.with_cores(threads)
        assert choices(ConvPointwise(), conv_task(pointwise), machine) == [False, True]
        assert ConvPointwise().default(conv_task(pointwise), machine)["prefetch"]
        assert choices(ConvDirect(), conv_task(direct), machine) == [False, True]
        assert ConvDirect().default(conv_task(direct), machine)["prefetch"]
        assert choices(MatmulPacked(), matmul_task((64, 256), (256, 512), constant_b=True), machine) == [False, True]
    large = conv_task(square(160, 960, 28, 3, in_block=block, out_block=block))
    assert choices(ConvDirect(), large) == [False, True] and not ConvDirect().default(large, target)["prefetch"]
    assert choices(ConvPointwise(), conv_task(small)) == [False]  # stays in the first-level cache
    assert choices(ConvPointwise(), conv_task(square(160, 960, 1, 1, in_block=block, out_block=block))) == [False]
    assert choices(MatmulPacked(), matmul_task((1, 256), (256, 512), constant_b=True)) == [False]
    # The tiles of rows are the outer loop here, and no panel is used twice in a row.
    assert choices(MatmulPacked(), matmul_task((4096, 256), (256, 512), constant_b=True)) == [False]


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_on_the_heap_stay_in_registers(threads: int) -> None:
    target = lookup("x86-64-v4").with_cores(threads)
    task, template = matmul_task((128, 384), (384, 1536), constant_b=True), MatmulPacked()
    kernel = template.apply(task, {"rows": 4, "vectors": 6, "prefetch": True}, target)
    executable: Any = tvm.compile(kernel.func, target=tvm.target.Target(target.tvm_config()))
    block = hot_block(executable.mod.inspect_source("s"))
    stores = [line for line in block.instructions if re.match(r"\s*vmov\w+\s+%zmm\d+, [^%]*\(", line)]
    assert len(block.fmas) == 24 and any("prefetcht0" in line for line in block.instructions)
    assert not stores


@pytest.mark.parametrize(("target", "instruction"), [("x86-64-v4", "prefetcht0"), ("cortex-a72", "prfm")])
def test_the_hot_loop_fetches_and_keeps_its_registers(target: str, instruction: str) -> None:
    machine = lookup(target).with_cores(1)
    block = machine.lanes(32)
    case = square(160, 960, 7, 1, in_block=block, out_block=block, epilogue="relu6")
    text = assembly(case, ConvPointwise(), machine)
    assert re.search(instruction, text)
    # LLVM unrolls the loop over a block's channels, so that the products are not one small loop: look at all of it.
    whole = Block(tuple(text.splitlines()))
    assert len(whole.fmas) > len(whole.accumulators) > 8
    assert whole.spilled_accumulators == []
