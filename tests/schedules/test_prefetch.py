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
import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad
from tvm.sym import Analyzer

from edgeir.schedules.analysis import call_name, nodes
from edgeir.schedules.conv_pointwise import ConvPointwise
from edgeir.schedules.matmul_packed import MatmulPacked
from edgeir.schedules.prefetch import LINE, worth_prefetch
from edgeir.targets import lookup
from tests.schedules.assembly import Block, assembly
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
    panels = int(buffer.shape[0])
    (call,) = (node for node in nodes(func) if isinstance(node, Call) and call_name(node) == "prefetch")
    load: Any = next(n for n in nodes(call) if isinstance(n, TensorLoad) and n.source.same_as(buffer))
    place = list(load.indices)[-1]
    variables = [node for node in nodes(place) if isinstance(node, tirx.Var)]
    loops: list[Any] = [
        node
        for node in reversed(list(nodes(func)))
        if isinstance(node, tirx.For) and any(node.loop_var.same_as(variable) for variable in variables)
    ]
    ranges = [range(1 if int(loop.extent) == panels else int(loop.extent)) for loop in loops]
    return [_evaluated(place, list(zip(loops, values, strict=True))) for values in product(*ranges)]


def _evaluated(place: Any, bound: Sequence[tuple[Any, int]]) -> int:
    def value(variable: Any) -> Any:
        return next(tirx.IntImm(variable.ty, number) for loop, number in bound if variable.same_as(loop.loop_var))

    simple: Any = Analyzer().simplify(tvm_ffi.structural_map(place, ((tirx.Var, value),)))
    return int(simple)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_with_fetches_are_exact(case: Any) -> None:
    template, task = ConvPointwise(), conv_task(case)
    config = {**template.default(task, SMALL_CACHE), "tile_pixels": 3, "blocks": 1}
    func = template.apply(task, config, SMALL_CACHE).func
    assert "T.prefetch" in func.script()
    check_case(template, case, SMALL_CACHE, config, run=runs_here(SMALL_CACHE))


@pytest.mark.parametrize("pixels", [1, 9, 27])
def test_the_tiles_of_a_panel_fetch_all_of_the_next_one_once(pixels: int) -> None:
    template, task = ConvPointwise(), conv_task(CASES[0])
    config = {"tile_pixels": pixels, "blocks": 1, "chunk_pixels": 81, "outer": "channels"}
    func: Any = template.apply(task, config, replace(SMALL_CACHE, vector_registers=32)).func
    panel = math.prod(int(extent) for extent in func.params[1].shape[1:])
    places = fetched_places(func, 1)
    assert places == sorted(places) and places[0] == panel
    assert {place // LINE for place in places} >= {place // LINE for place in range(panel, 2 * panel)}
    # Not much beyond the panel: a float for each step of each tile.
    assert places[-1] < 2 * panel + len(places)


@pytest.mark.parametrize("rows", [33, 7])
def test_products_with_fetches_are_exact(rows: int) -> None:
    generator = np.random.default_rng(1)
    a, b = (generator.standard_normal(shape).astype("float32") for shape in ((rows, 40), (40, 70)))
    target = replace(WIDE, l1_bytes=1024, cores=1)
    task, template = matmul_task(a.shape, b.shape, constant_b=True), MatmulPacked()
    config = {"rows": 3, "vectors": 1}
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
    assert not worth_prefetch(2, 2, floats + 1, target.with_cores(2))


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
