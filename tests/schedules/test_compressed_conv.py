"""Convolutions whose kernel decodes a compressed weight: as the reference computes them, compressed in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.compressed_conv import CompressedConv
from edgeir.targets import Target, lookup
from tests.schedules.test_compressed_matmul import KINDS, weight
from tests.schedules.x86_machines import machine

SHAPES: dict[str, dict[str, Any]] = {
    "pointwise": {"channels": (24, 40), "kernel": (1, 1)},
    "three": {"channels": (20, 33), "kernel": (3, 3), "strides": (2, 1)},
    "first": {"channels": (3, 16), "kernel": (3, 3), "blocked_input": False},
    "depthwise": {"channels": (24, 24), "kernel": (3, 3), "groups": 24},
    "groups": {"channels": (32, 32), "kernel": (3, 1), "groups": 2},
}


def network(
    kind: str,
    block: int,
    channels: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    groups: int = 1,
    blocked_input: bool = True,
    seed: int = 0,
) -> tuple[Graph, dict[str, np.ndarray]]:
    """relu(conv(x, decoded) + bias) on 9 x 11 pixels with a scale for each output channel."""
    random = np.random.default_rng(seed)
    graph = Graph("net")
    inner, outer = channels
    x = graph.add_input("x", TensorType("float32", (1, inner, 9, 11)))
    layout = f"NCHW{block}c"

    def cast(value: Value, to: str) -> Value:
        return graph.add_node("layout_cast", [value], {"layout": to}, output_layouts=[to]).output

    scale = random.uniform(0.01, 0.03, (outer, 1, 1, 1)).astype(np.float32)
    w = weight(graph, kind, (outer, inner // groups, *kernel), scale, seed)
    bias = graph.add_constant(random.standard_normal(outer).astype(np.float32), "bias")
    attributes = {
        "strides": strides,
        "padding": (kernel[0] // 2, kernel[1] // 2) * 2,
        "dilations": (1, 1),
        "groups": groups,
    }
    image = cast(x, layout) if blocked_input else x
    y = graph.add_node("conv", [image, w, bias], attributes, output_layouts=[layout]).output
    y = graph.add_node("relu", [y], output_layouts=[layout]).output
    graph.set_outputs([("y", cast(y, ""))])
    return graph, {"x": random.standard_normal((1, inner, 9, 11)).astype(np.float32)}


def check(graph: Graph, inputs: dict[str, np.ndarray], target: Target) -> tuple[set[str], int]:
    """Compares with the reference evaluator; returns the templates of the kernels and the bytes of the constants."""
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    lowered = build(graph, target)
    found = Runner(graph, lowered)(inputs)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max(initial=1.0)))
    return {scheduled.template for scheduled in lowered.kernels}, lowered.constant_bytes


@pytest.mark.parametrize("kind", ["int8", "int4", "uint4 zero", "log4"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["x86-64-v2", "host"])
def test_convolutions_are_the_reference_s(name: str, shape: str, kind: str) -> None:
    target = machine(name, 1)
    templates, _ = check(*network(kind, target.lanes(32), **SHAPES[shape]), target)
    assert CompressedConv.name in templates


@settings(max_examples=10)
@given(
    kind=st.sampled_from(KINDS),
    channels=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    seed=st.integers(0, 1000),
)
def test_any_convolution_is_the_reference_s(
    kind: str, channels: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int], seed: int
) -> None:
    target = lookup("host").with_cores(2)
    check(*network(kind, target.lanes(32), channels, kernel, strides, seed=seed), target)


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("int4", 4), ("log4", 4)])
def test_memory_holds_the_bits_of_the_weight(kind: str, bits: int) -> None:
    target = lookup("x86-64-v2").with_cores(1)
    _, constants = check(*network(kind, 4, (32, 64), (3, 3)), target)
    assert constants == 32 * 64 * 9 * bits // 8 + 64 * 4 + 64 * 4


def test_the_workspace_counts_the_decoded_weight() -> None:
    target, template = lookup("x86-64-v2").with_cores(1), CompressedConv()
    graph, _ = network("int8", 4, (32, 64), (1, 1))
    FuseOperators().run(graph, PassContext(target=target))
    node = next(node for node in graph.nodes if node.op == "fused" and node.attributes["anchor"] == "conv")
    task = lower_node(node, "kernel").task
    assert template.match(task, target)
    assert template.apply(task, template.default(task, target), target).workspace_bytes == 32 * 64 * 4


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_decoded_weights_beyond_the_first_level_cache_are_not_fetched_ahead(
    kernel: tuple[int, int], threads: int
) -> None:
    target = replace(lookup("x86-64-v2").with_cores(threads), l1_bytes=1024)
    templates, _ = check(*network("int4", 4, (32, 64), kernel), target)
    assert CompressedConv.name in templates
