"""Integer depthwise convolutions are exact for every shape, zero point and weight, on every target that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.module import Scheduled
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.conv_problem import conv_problem
from edgeir.schedules.integer_depthwise import IntegerDepthwise
from edgeir.schedules.integer_depthwise_intrinsics import tap_dot
from edgeir.schedules.integer_depthwise_tile import choose_tile, gathers, most_sums, period, tap_groups
from edgeir.schedules.select import select
from edgeir.schedules.task import Task
from edgeir.targets import Target, lookup
from tests.lowering.depthwise_networks import BASE, SHAPES, depthwise_convolutions
from tests.lowering.integer_networks import conv_network
from tests.schedules.x86_machines import machine, targets


def task_of(numbers: dict[str, Any], target: Target, block: int) -> Task:
    graph, _ = conv_network(numbers, 0, block)
    FuseOperators().run(graph, PassContext(target=target))
    node = next(node for node in graph.nodes if node.op == "fused" and node.attributes["anchor"] == "conv_integer")
    return lower_node(node, "kernel").task


def check(
    numbers: dict[str, Any], target: Target, seed: int = 0, config: dict[str, Any] | None = None
) -> list[Scheduled]:
    """Compares a network with the reference evaluator, bit by bit; returns its depthwise kernels."""
    graph, inputs = conv_network(numbers, seed, target.lanes(32))
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))

    def scheduler(task: Task) -> Scheduled:
        template = select(task, target)
        chosen: Any = template.default(task, target)
        if config is not None and template.name == IntegerDepthwise.name:
            chosen = {**chosen, **config}
        return Scheduled(task, template.name, chosen, template.apply(task, chosen, target))

    lowered = build(graph, target, scheduler=scheduler)
    np.testing.assert_array_equal(Runner(graph, lowered)(inputs)["y"], expected)
    return [scheduled for scheduled in lowered.kernels if scheduled.template == IntegerDepthwise.name]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", targets())
def test_sums_are_exact(name: str, shape: str, dtype: str) -> None:
    numbers = BASE | SHAPES[shape] | {"dtype": dtype}
    if dtype == "int8":
        numbers["x_zero"] = -128
    assert check(numbers, lookup(name).with_cores(1))


@pytest.mark.parametrize("name", ["host", "x86-64-v3"])
@settings(max_examples=12)
@given(numbers=depthwise_convolutions(), seed=st.integers(0, 1000))
def test_any_depthwise_convolution_is_exact(name: str, numbers: dict[str, Any], seed: int) -> None:
    check(numbers, machine(name, 2), seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", targets())
@settings(max_examples=60)
@given(numbers=depthwise_convolutions(), seed=st.integers(0, 10**6))
def test_any_depthwise_convolution_is_exact_everywhere(name: str, numbers: dict[str, Any], seed: int) -> None:
    check(numbers, lookup(name).with_cores(2), seed)


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "host"])
def test_every_knob_computes_the_same(name: str) -> None:
    target = machine(name, 1)
    space = IntegerDepthwise().space(task_of(BASE, target, target.lanes(32)), target)
    assert space["sums"] == ["dot", "multiply"]
    for sums in space["sums"]:
        for rows, columns, band in ((1, 1, 1), (2, 5, 5), (4, 3, 10)):
            config = {"sums": sums, "tile_rows": rows, "tile_columns": columns, "band_rows": band}
            (kernel,) = check(BASE, target, config=config)
            assert kernel.config == config


def test_a_config_outside_the_space_is_refused() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    task, template = task_of(BASE, target, 8), IntegerDepthwise()
    for change in ({"tile_rows": 9}, {"sums": "guess"}, {"other": 1}):
        with pytest.raises(EdgeIRError):
            template.apply(task, {**template.default(task, target), **change}, target)


@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("shape", ["three", "three_stride", "five", "five_stride", "flat"])
def test_a_tile_multiplies_every_tap_once(shape: str, taps: int) -> None:
    problem = conv_problem(task_of(BASE | SHAPES[shape], lookup("x86-64-v3"), 8))
    rows, columns = 3, 5
    products = []
    for gather in gathers(problem, taps, rows, columns):
        for use in gather.uses:
            for lane in range(taps):
                tap = use.group * taps + lane - use.shift
                if 0 <= tap < problem.kernel[1]:
                    products.append((use.row, use.column, use.kernel_row, tap, gather.row, gather.column + lane))
    expected = [
        (h, w, r, c, h * problem.strides[0] + r * problem.dilations[0], w * problem.strides[1] + c)
        for h in range(rows)
        for w in range(columns)
        for r in range(problem.kernel[0])
        for c in range(problem.kernel[1])
    ]
    assert sorted(products) == expected


def test_windows_share_what_is_gathered() -> None:
    """Two windows of 3 lie in 4 bytes, four of 5 in 8; pairs are gathered at even columns only."""
    for shape, taps, distance in (("three", 4, 2), ("three", 2, 2), ("five", 4, 4), ("five", 2, 2)):
        problem = conv_problem(task_of(BASE | SHAPES[shape], lookup("x86-64-v3"), 8))
        assert period(problem, taps) == distance
        plan = gathers(problem, taps, 1, 8)
        last = 8 - distance + (tap_groups(problem, taps) - 1) * taps
        assert {gather.column for gather in plan} == set(range(0, last + 1, distance))


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4+avx512vnni", "cortex-a76"])
def test_the_sums_of_a_tile_stay_in_registers(name: str) -> None:
    target = lookup(name)
    block = target.lanes(32)
    dtype = "int8" if name == "cortex-a76" else "uint8"
    dot = tap_dot(target, block, dtype)
    assert dot is not None
    for shape in ("three", "three_stride", "five", "five_stride"):
        problem = conv_problem(task_of(BASE | SHAPES[shape] | {"dtype": dtype, "x_zero": 0}, target, block))
        rows, columns = choose_tile(problem, dot, [problem.out_spatial[0]], target)
        assert rows * columns > 1
        assert most_sums(gathers(problem, dot.taps, rows, columns)) < target.vector_registers


def test_the_instructions_follow_from_the_target() -> None:
    cases = [
        ("x86-64-v2", 4, "uint8", "pmaddwd"),
        ("x86-64-v3", 8, "int8", "pmaddwd"),
        ("x86-64-v3+avxvnni", 8, "uint8", "vpdpbusd"),
        ("x86-64-v4", 16, "uint8", "pmaddwd"),
        ("x86-64-v4+avx512vnni", 16, "uint8", "vpdpbusd"),
        ("cortex-a76", 4, "int8", "sdot"),
    ]
    for name, block, dtype, kind in cases:
        dot = tap_dot(lookup(name), block, dtype)
        assert dot is not None and dot.kind == kind
    for name, block, dtype in (("cortex-a72", 4, "int8"), ("cortex-a76", 4, "uint8"), ("x86-64-v3", 16, "uint8")):
        assert tap_dot(lookup(name), block, dtype) is None


def test_sums_that_float32_cannot_hold_are_not_multiplied() -> None:
    """255·128·taps reaches 2^24 with 515 taps."""
    target, template = lookup("cortex-a72"), IntegerDepthwise()
    for kernel, exact in (((2, 257), True), ((5, 103), False)):
        numbers = BASE | {"kernel": kernel, "padding": (0, 0, 0, 0), "size": (6, 260)}
        assert template.match(task_of(numbers, target, 4), target) is exact
