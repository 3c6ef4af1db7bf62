"""Packed stores of quantized results: bit-exact at every extreme, for every size of a row, and really packed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.integer_conv import IntegerConv
from edgeir.schedules.narrowing_intrinsics import narrowing
from edgeir.targets import Target, lookup
from tests.schedules.test_integer_conv import direct
from tests.schedules.x86_machines import machine, targets

SCALES = {
    "ordinary": (1e-3, 3e-3),
    "saturating": (0.3, 0.9),
    "beyond int32": (1e4, 1e9),
    "beyond float32": (1e30, 3e38),
    "infinite": (np.inf, np.inf),
    "negative": (-1e6, 1e6),
}
"""Ranges of the output's scale. Sums of 0 times an infinite scale are NaN."""


def network(
    target: Target, scales: str, zero: int, width: int = 9, epilogue: str = "relu", padding: int = 0
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A 1x1 (3x3 if padded) convolution whose bytes have the given zero point, blocked as the target wants it."""
    random, lanes = np.random.default_rng(zero + width), target.lanes(32)
    layout, outer, kernel = f"NCHW{lanes}c", 3 * lanes, 3 if padding else 1
    graph = Graph("net")
    x: Value = graph.add_input("x", TensorType("uint8", (1, 16, 3, width)))
    cast = graph.add_node("layout_cast", [x], {"layout": layout}, output_layouts=[layout]).output
    weight = random.integers(-64, 65, (outer, 16, kernel, kernel)).astype(np.int8)
    weight[:3] = 0
    operands = [cast, graph.add_constant(weight, "w"), None, graph.add_constant(np.uint8(121), "z")]
    attributes = {"strides": (1, 1), "padding": (padding,) * 4, "dilations": (1, 1), "groups": 1}
    keep = [layout]
    y = graph.add_node("conv_integer", operands, attributes, output_layouts=keep).output
    scale = random.uniform(0, 1, (1, outer, 1, 1)) * (SCALES[scales][1] - SCALES[scales][0]) + SCALES[scales][0]
    if scales == "infinite":
        scale = np.full((1, outer, 1, 1), np.inf)
    constant = graph.add_constant(scale.astype(np.float32), "s", layout)
    y = graph.add_node("dequantize", [y, constant, None], {}, output_layouts=keep).output
    if epilogue == "relu":
        y = graph.add_node("relu", [y], {}, output_layouts=keep).output
    elif epilogue == "clip":
        y = graph.add_node("clip", [y], {"minimum": -3.5, "maximum": 90.25}, output_layouts=keep).output
    one, middle = graph.add_constant(np.float32(1), "one"), graph.add_constant(np.uint8(zero), "qz")
    y = graph.add_node("quantize", [y, one, middle], {"dtype": "uint8"}, output_layouts=keep).output
    graph.set_outputs([("y", graph.add_node("layout_cast", [y], {"layout": ""}, output_layouts=[""]).output)])
    return graph, {"x": random.integers(0, 256, (1, 16, 3, width)).astype(np.uint8)}


def check(target: Target, *numbers: Any, **more: Any) -> None:
    graph, inputs = network(target, *numbers, **more)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    lowered = build(graph, target, scheduler=lambda task: direct(task, target))
    assert "integer_conv" in {scheduled.template for scheduled in lowered.kernels}
    np.testing.assert_array_equal(Runner(graph, lowered)(inputs)["y"], expected)


@pytest.mark.parametrize("zero", [0, 1, 128, 255])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("name", targets())
def test_saturation_is_that_of_the_reference(name: str, scales: str, zero: int) -> None:
    check(lookup(name).with_cores(1), scales, zero, epilogue=("relu", "none", "clip")[zero % 3])


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "host"])
def test_rows_of_every_length(name: str, width: int, padding: int) -> None:
    target = machine(name, 1)
    check(target, "saturating", 3, width=width, padding=padding)


@pytest.mark.parametrize("scales", ["ordinary", "beyond int32"])
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4+avx512vnni"])
def test_four_registers_are_packed_into_one(name: str, scales: str) -> None:
    target = lookup(name).with_cores(1)
    graph, _ = network(target, scales, 0, width=16)
    FuseOperators().run(graph, PassContext(target=target))
    node = next(node for node in graph.nodes if node.op == "fused" and node.attributes["anchor"] == "conv_integer")
    task, template = lower_node(node, "kernel").task, IntegerConv()
    assert task.integers is not None and task.integers.floats_fit == (scales == "ordinary")
    kernel = template.apply(task, template.default(task, target), target)
    built: Any = tvm.tirx.build(kernel.func, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir")
    text = built.inspect_source("s")
    counts = {name: len(re.findall(rf"\sv?{name}\s", text)) for name in ("packssdw", "packuswb", "minps", "cvtps2dq")}
    assert counts["packuswb"] > 0 and counts["packssdw"] == 2 * counts["packuswb"]
    assert counts["cvtps2dq"] == 4 * counts["packuswb"]
    # A limit is needed only where floats may be beyond int32.
    assert counts["minps"] == (0 if scales == "ordinary" else counts["cvtps2dq"])


def test_targets_without_the_instructions() -> None:
    for name, lanes in (("cortex-a76", 4), ("x86-64-v3", 16), ("x86-64-v2", 8)):
        assert narrowing(lookup(name), lanes) is None
