"""Winograd's integer convolution is exact for every shape, zero point, weight and knob, and is used where it pays."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, TensorType
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.module import Scheduled
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.dot_intrinsics import pair_product
from edgeir.schedules.integer_winograd import IntegerWinograd
from edgeir.schedules.select import matching, select
from edgeir.schedules.task import Task
from edgeir.targets import Target, lookup
from edgeir.tuning.problem import Problem
from tests.lowering.integer_networks import BASE, conv_network
from tests.schedules.test_integer_assembly import hot_loop
from tests.schedules.x86_machines import machine

TEMPLATE = IntegerWinograd()
TARGETS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]
VNNI = ["x86-64-v3+avxvnni", "x86-64-v4+avx512vnni"]

SHAPES: dict[str, dict[str, Any]] = {
    "ragged": {},
    "wide": {"channels": (64, 64), "size": (14, 14), "weights": "pairs"},
    "unpadded": {"padding": (0, 0, 0, 0), "size": (3, 12), "x_zero": 0},
    "lopsided": {"padding": (2, 0, 1, 2), "x_zero": 255, "batch": 2, "epilogue": "none"},
    "signed": {"dtype": "int8", "x_zero": -128, "epilogue": "none"},
    "one_block": {"channels": (4, 4), "size": (1, 1), "x_zero": None, "bias": False, "epilogue": "none"},
}
"""What differs from `BASE`, by name."""


def conv_node(graph: Graph, target: Target) -> Task:
    FuseOperators().run(graph, PassContext(target=target))
    for node in graph.nodes:
        if node.op == "conv_integer" or (node.op == "fused" and node.attributes["anchor"] == "conv_integer"):
            return lower_node(node, "kernel").task
    raise AssertionError("the network lacks its convolution")


def task_of(numbers: dict[str, Any], target: Target) -> Task:
    return conv_node(conv_network(numbers, 0, target.lanes(32))[0], target)


def check(graph: Graph, inputs: dict[str, np.ndarray], target: Target, knobs: dict[str, Any]) -> dict[str, Any]:
    """Compares a network whose convolution is scheduled with `knobs` with the reference evaluator, bit by bit."""
    expected = evaluate(graph, inputs)["y"]
    used: dict[str, Any] = {}

    def scheduler(task: Task) -> Scheduled:
        template = TEMPLATE if task.anchor == "conv_integer" else select(task, target)
        config = dict(template.default(task, target))
        if template is TEMPLATE:
            assert template.match(task, target)
            space = template.space(task, target)
            config |= {knob: space[knob][value % len(space[knob])] for knob, value in knobs.items()}
            used.update(config)
        return Scheduled(task, template.name, config, template.apply(task, config, target))

    FuseOperators().run(graph, PassContext(target=target))
    found = Runner(graph, build(graph, target, scheduler=scheduler))(inputs)["y"]
    np.testing.assert_array_equal(found, expected)
    return used


@pytest.mark.parametrize("m", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*TARGETS, *VNNI])
def test_sums_are_exact(name: str, shape: str, m: int) -> None:
    target = machine(name, 2)
    graph, inputs = conv_network(BASE | SHAPES[shape], 0, target.lanes(32))
    assert check(graph, inputs, target, {"m": m})["m"] == (2, 4)[m]


@pytest.mark.parametrize("shape", ["ragged", "lopsided"])
def test_sums_in_registers_of_256_bits_are_exact(shape: str) -> None:
    target = replace(machine("x86-64-v4+avx512vnni", 2), vector_bits=256)
    dot = pair_product(target)
    assert dot is not None and dot.name == "vpdpwssd_256"
    graph, inputs = conv_network(BASE | SHAPES[shape], 0, target.lanes(32))
    check(graph, inputs, target, {"m": 1})


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    dtype = draw(st.sampled_from(["uint8", "uint8", "int8"]))
    low = int(np.iinfo(dtype).min)
    padding = draw(st.tuples(*(st.integers(0, 2) for _ in range(4))))
    smallest = [max(1, 3 - padding[axis] - padding[axis + 2]) for axis in range(2)]
    return BASE | {
        "channels": (draw(st.integers(2, 70)), draw(st.integers(2, 70))),
        "size": tuple(draw(st.integers(least, 20)) for least in smallest),
        "padding": padding,
        "batch": draw(st.sampled_from([1, 1, 2])),
        "dtype": dtype,
        "x_zero": draw(st.sampled_from([None, low, low + 255, low + 128, low + 7])),
        "bias": draw(st.booleans()),
        "weights": draw(st.sampled_from(["extreme", "symmetric", "pairs"])),
        "epilogue": draw(st.sampled_from(["none", "quantize", "residual"])),
    }


def knobs() -> st.SearchStrategy[dict[str, int]]:
    """Positions in the space of some knobs; the others stay at their defaults. Register tiles stay small to compile."""
    most = {"m": 1, "tile_pixels": 5, "blocks": 2, "chunk_rows": 20, "parallel": 1}
    return st.fixed_dictionaries({}, optional={name: st.integers(0, last) for name, last in most.items()})


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4+avx512vnni"])
@settings(max_examples=8)
@given(numbers=convolutions(), seed=st.integers(0, 1000), chosen=knobs())
def test_any_convolution_is_exact(name: str, numbers: dict[str, Any], seed: int, chosen: dict[str, int]) -> None:
    target = machine(name, 2)
    check(*conv_network(numbers, seed, target.lanes(32)), target, chosen)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TARGETS, *VNNI])
@settings(max_examples=25)
@given(numbers=convolutions(), seed=st.integers(0, 10**6), chosen=knobs())
def test_any_convolution_is_exact_everywhere(
    name: str, numbers: dict[str, Any], seed: int, chosen: dict[str, int]
) -> None:
    target = machine(name, 2)
    check(*conv_network(numbers, seed, target.lanes(32)), target, chosen)


def full_network(weight: np.ndarray, dtype: str, fill: int, block: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A convolution of an input that holds one number, its sums as they are."""
    shape = (1, weight.shape[1], 6, 6)
    graph = Graph("net")
    x = graph.add_input("x", TensorType(dtype, shape))
    layout = f"NCHW{block}c"
    blocked = graph.add_node("layout_cast", [x], {"layout": layout}, output_layouts=[layout]).output
    attributes = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1), "groups": 1}
    operands = [blocked, graph.add_constant(weight, "w"), None, None]
    y = graph.add_node("conv_integer", operands, attributes, output_layouts=[layout]).output
    graph.set_outputs([("y", graph.add_node("layout_cast", [y], {"layout": ""}, output_layouts=[""]).output)])
    return graph, {"x": np.full(shape, fill, dtype)}


LIMITS = [
    ("uint8", 255, 127, 115, 6),
    ("uint8", 255, 127, 116, 2),
    ("uint8", 255, -128, 114, 6),
    ("uint8", 255, -128, 115, 2),
    ("int8", -128, -128, 227, 6),
    ("int8", -128, 127, 230, 2),
    ("uint8", 255, 127, 1841, 2),
    ("uint8", 255, 127, 1842, 0),
]
"""Dtype and value of the input, value of every weight, channels, and the bits that sums leave free."""


@pytest.mark.parametrize(
    ("name", "dtype", "fill", "value", "channels", "headroom"),
    [*(("x86-64-v3", *limit) for limit in LIMITS), *(("x86-64-v4+avx512vnni", *limit) for limit in LIMITS[:4])],
)
def test_sums_at_the_limit_are_exact(
    name: str, dtype: str, fill: int, value: int, channels: int, headroom: int
) -> None:
    target = machine(name, 1)
    weight = np.full((8, channels, 3, 3), value, np.int8)
    weight[1] = -np.clip(weight[1], -127, 127)
    graph, inputs = full_network(weight, dtype, fill, target.lanes(32))
    task = conv_node(graph, target)
    assert task.integers is not None and task.integers.headroom == headroom
    if headroom == 0:
        assert not TEMPLATE.match(task, target)
        return
    assert TEMPLATE.space(task, target)["m"] == ([2, 4] if headroom == 6 else [2])
    graph, inputs = full_network(weight, dtype, fill, target.lanes(32))
    check(graph, inputs, target, {"m": -1})


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4+avx512vnni"])
def test_alternating_signs_wrap_on_the_way_only(name: str) -> None:
    """Signs that make the products of a tile's inner points overflow 32 bits, though no sum of the convolution does."""
    target = machine(name, 1)
    sign = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]])
    weight = np.broadcast_to(127 * sign, (8, 200, 3, 3)).astype(np.int8)
    graph, inputs = full_network(weight, "uint8", 0, target.lanes(32))
    board = np.indices((6, 6)).sum(axis=0) % 2
    inputs["x"] = np.broadcast_to(255 * board, (1, 200, 6, 6)).astype(np.uint8)
    assert check(graph, inputs, target, {"m": -1})["m"] == 4


@pytest.mark.parametrize(
    ("weights", "channels", "headroom"), [("pairs", 512, 6), ("symmetric", 512, 2), ("extreme", 64, 6)]
)
def test_tuning_sees_the_same_headroom(weights: str, channels: int, headroom: int) -> None:
    target = lookup("x86-64-v3")
    numbers = BASE | {"channels": (channels, 16), "size": (7, 7), "weights": weights, "epilogue": "none"}
    graph, _ = conv_network(numbers, 0, 8)
    FuseOperators().run(graph, PassContext(target=target))
    node = next(node for node in graph.nodes if "conv_integer" in (node.op, node.attributes.get("anchor")))
    problem = Problem.from_text(Problem.of_node(node).to_text())
    task = lower_node(node, "kernel").task
    assert problem.lowering().task.integers == task.integers
    assert task.integers is not None and task.integers.headroom == headroom


def test_where_it_is_used() -> None:
    stage = BASE | {"channels": (64, 64), "size": (56, 56), "weights": "pairs"}
    for name in TARGETS:
        assert select(task_of(stage, lookup(name)), lookup(name)).name == "integer_winograd"
    v3 = lookup("x86-64-v3")
    last = task_of(stage | {"channels": (512, 512), "size": (7, 7)}, v3)
    found = [template.name for template in matching(last, v3)]
    assert found[0] == "integer_conv" and "integer_winograd" in found
    for other in ({"strides": (2, 2)}, {"dilations": (2, 2)}, {"groups": 2}, {"kernel": (3, 1)}, {"weights": "int4"}):
        assert not TEMPLATE.match(task_of(stage | other, v3), v3), other
    signed = stage | {"dtype": "int8", "x_zero": 0}
    for name in ("cortex-a72", "cortex-a76"):
        assert not TEMPLATE.match(task_of(signed, lookup(name)), lookup(name))
    assert select(task_of(signed, v3), v3).name == "integer_winograd"


@pytest.mark.parametrize("name", VNNI)
def test_where_it_is_used_with_vnni(name: str) -> None:
    """Tiles of 4 x 4 from 32 channels on, where the transformed weights do not come from beyond the caches."""
    target = lookup(name)
    chosen = {
        (64, 56): "integer_winograd",
        (128, 28): "integer_winograd",
        (32, 28): "integer_winograd",
        (16, 28): "integer_conv",
        (512, 7): "integer_conv",
    }
    for (channels, size), expected in chosen.items():
        shape = {"channels": (channels, channels), "size": (size, size)}
        task = task_of(BASE | {"weights": "pairs"} | shape, target)
        assert TEMPLATE.match(task, target) and select(task, target).name == expected, shape
    narrow = task_of(BASE | {"channels": (512, 64), "size": (14, 14), "weights": "symmetric"}, target)
    assert narrow.integers is not None and narrow.integers.headroom == 2
    assert TEMPLATE.default(narrow, target)["m"] == 2 and select(narrow, target).name == "integer_conv"


@pytest.mark.parametrize(
    ("name", "pattern", "each"),
    [
        # LLVM splits some of them where it expects to wait for the sums.
        ("x86-64-v3+avxvnni", r"vp(dpwssd|maddwd)\s.*%ymm", 2.7),
        ("x86-64-v4+avx512vnni", r"vpdpwssd\s.*%zmm", 2.0),
        ("x86-64-v2", r"pmaddwd\s.*%xmm", 4.6),
        ("x86-64-v3", r"vpmaddwd\s.*%ymm", 3.3),
        ("x86-64-v4", r"vpmaddwd\s.*%zmm", 3.3),
    ],
)
def test_hot_loops_consist_of_products_of_pairs(name: str, pattern: str, each: float) -> None:
    target = lookup(name).with_cores(1)
    task = task_of(BASE | {"channels": (64, 64), "size": (28, 28), "weights": "pairs"}, target)
    kernel = TEMPLATE.apply(task, TEMPLATE.default(task, target), target)
    built: Any = tvm.tirx.build(kernel.func, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir")
    instruction = re.compile(rf"\s{pattern}")
    loop = hot_loop(built.inspect_source("s"), instruction)
    products = [line for line in loop if instruction.search(line)]
    assert len(products) >= 8 and len(loop) <= each * len(products), "\n".join(loop)
    stores = [line for line in loop if re.match(r"\s+v?mov\w+\s+%[xyz]mm\d+, .*\(", line)]
    assert not stores, "\n".join(loop)
