"""Integer convolutions are exact for every shape, zero point and weight, on every target that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.module import Scheduled
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.dot_intrinsics import dot_product
from edgeir.schedules.integer_conv import IntegerConv
from edgeir.schedules.select import select
from edgeir.schedules.task import Integers, Task
from edgeir.targets import Target, lookup
from tests.lowering.integer_networks import BASE, SHAPES, conv_network, integer_convolutions
from tests.schedules.x86_machines import machine, targets


def task_of(numbers: dict[str, Any], target: Target, block: int) -> Task:
    graph, _ = conv_network(numbers, 0, block)
    FuseOperators().run(graph, PassContext(target=target))
    node = next(node for node in graph.nodes if node.op == "fused" and node.attributes["anchor"] == "conv_integer")
    return lower_node(node, "kernel").task


def direct(task: Task, target: Target) -> Scheduled:
    """The default kernel of this template wherever it matches."""
    template = IntegerConv() if IntegerConv().match(task, target) else select(task, target)
    config = template.default(task, target)
    return Scheduled(task, template.name, config, template.apply(task, config, target))


def check(numbers: dict[str, Any], target: Target, block: int, seed: int = 0) -> set[str]:
    """Compares a network with the reference evaluator, bit by bit; returns the templates of its kernels."""
    graph, inputs = conv_network(numbers, seed, block)
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    lowered = build(graph, target, scheduler=lambda task: direct(task, target))
    np.testing.assert_array_equal(Runner(graph, lowered)(inputs)["y"], expected)
    return {scheduled.template for scheduled in lowered.kernels}


@pytest.mark.parametrize("weights", ["extreme", "pairs"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", targets())
def test_sums_are_exact(name: str, shape: str, weights: str) -> None:
    target = lookup(name).with_cores(1)
    numbers = BASE | SHAPES[shape] | {"weights": weights}
    assert "integer_conv" in check(numbers, target, 0 if shape == "ragged" else target.lanes(32))


@pytest.mark.parametrize("weights", ["int4", "codes"])
@pytest.mark.parametrize("shape", ["padded", "pointwise", "first", "ragged", "groups"])
@pytest.mark.parametrize(
    "name", [param for param in targets() if param.values[0] in ("x86-64-v2", "x86-64-v3", "host")]
)
def test_weights_of_four_bits_are_decoded(name: str, shape: str, weights: str) -> None:
    target = lookup(name).with_cores(1)
    numbers = BASE | SHAPES[shape] | {"weights": weights}
    assert "integer_conv" in check(numbers, target, target.lanes(32))


@pytest.mark.parametrize("epilogue", ["quantize", "residual"])
@pytest.mark.parametrize("name", targets())
def test_one_output_channel_in_blocks(name: str, epilogue: str) -> None:
    """The scale of one channel is a blocked constant of one element."""
    target = lookup(name).with_cores(1)
    assert "integer_conv" in check(BASE | {"channels": (24, 1), "epilogue": epilogue}, target, target.lanes(32))


def test_weights_of_four_bits_share_bytes() -> None:
    target = lookup("x86-64-v3")
    numbers = BASE | {"channels": (32, 64), "epilogue": "none", "bias": False, "x_zero": None}
    sizes = {}
    for weights in ("symmetric", "int4", "codes"):
        graph, _ = conv_network(numbers | {"weights": weights}, 0, 8)
        FuseOperators().run(graph, PassContext(target=target))
        lowered = build(graph, target, scheduler=lambda task: direct(task, target))
        sizes[weights] = lowered.constant_bytes
    assert sizes == {"symmetric": 32 * 64 * 9, "int4": 32 * 64 * 9 // 2, "codes": 32 * 64 * 9 // 2 + 16}


@pytest.mark.parametrize("name", ["host", "x86-64-v3"])
@settings(max_examples=15)
@given(numbers=integer_convolutions(), seed=st.integers(0, 1000), blocked=st.booleans())
def test_any_convolution_is_exact(name: str, numbers: dict[str, Any], seed: int, blocked: bool) -> None:
    target = machine(name, 2)
    check(numbers, target, target.lanes(32) if blocked else 0, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", targets())
@settings(max_examples=60)
@given(numbers=integer_convolutions(), seed=st.integers(0, 10**6), blocked=st.booleans())
def test_any_convolution_is_exact_everywhere(name: str, numbers: dict[str, Any], seed: int, blocked: bool) -> None:
    target = lookup(name).with_cores(2)
    check(numbers, target, target.lanes(32) if blocked else 0, seed)


@pytest.mark.parametrize("name", ["x86-64-v3", "host"])
def test_every_knob_computes_the_same(name: str) -> None:
    """Extremes of each knob, one at a time."""
    target = machine(name, 1)
    template = IntegerConv()
    numbers = BASE | {"kernel": (1, 1), "padding": (0, 0, 0, 0)}
    graph, inputs = conv_network(numbers, 0, target.lanes(32))
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    task = task_of(numbers, target, target.lanes(32))
    default, space = template.default(task, target), template.space(task, target)
    for knob, values in space.items():
        for value in {values[0], values[-1]}:
            config = {**default, knob: value}

            def scheduler(task: Task, config: Any = config) -> Scheduled:
                chosen = select(task, target)
                used = config if chosen.name == template.name else chosen.default(task, target)
                return Scheduled(task, chosen.name, used, chosen.apply(task, used, target))

            found = Runner(graph, build(graph, target, scheduler=scheduler))(inputs)["y"]
            np.testing.assert_array_equal(found, expected, err_msg=f"{knob} = {value}")


def test_the_instructions_follow_from_target_and_weights() -> None:
    pairs, wide, full = Integers(0, True, True), Integers(0, False, True), Integers(0, False, False)
    cases = [
        ("x86-64-v2", "uint8", pairs, "pmaddubsw_128"),
        ("x86-64-v3", "uint8", pairs, "pmaddubsw_256"),
        ("x86-64-v3", "uint8", wide, "pmaddwd_256"),
        ("x86-64-v3+avxvnni", "uint8", full, "vpdpbusd_256"),
        ("x86-64-v4", "uint8", pairs, "pmaddubsw_512"),
        ("x86-64-v4+avx512vnni", "uint8", full, "vpdpbusd_512"),
        ("cortex-a72", "int8", wide, "smlal_128"),
        ("cortex-a72", "int8", full, "smull_128"),
        ("cortex-a76", "int8", full, "sdot_128"),
    ]
    for name, left, integers, expected in cases:
        dot = dot_product(lookup(name), left, integers)
        assert dot is not None and dot.name == expected
    for name, left in (("x86-64-v3", "int8"), ("cortex-a72", "uint8"), ("armv7-neon", "int8")):
        assert dot_product(lookup(name), left, pairs) is None


def test_weights_decide_which_kernels_are_shared() -> None:
    target = lookup("x86-64-v3")
    pairs, again, wide = (task_of(BASE | {"weights": kind}, target, 8) for kind in ("pairs", "pairs", "symmetric"))
    assert pairs.key == again.key != wide.key
