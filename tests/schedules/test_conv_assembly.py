"""What LLVM makes of the default convolution kernels, and that convolutions of any shape compile to right values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.ir import Builder
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from tests.schedules.assembly import Block, assembly, hot_block, loop_blocks
from tests.schedules.conv_task import ConvCase
from tests.schedules.test_conv_templates import first_match, square

VECTORS = {"x86-64-v4": "%zmm", "x86-64-v3": "%ymm", "cortex-a72": ".4s"}
"""Target → how a full vector of floats is written in its assembly."""

SHAPES = {
    "pointwise": ("conv_pointwise", (64, 96, 14, 1), {"epilogue": "relu6"}),
    "pointwise_small_image": ("conv_pointwise", (160, 96, 7, 1), {"epilogue": "residual"}),
    "pointwise_ragged": ("conv_pointwise", (24, 144, 28, 1), {"epilogue": "relu6"}),
    "direct": ("conv_direct", (64, 64, 14, 3), {"stride": 2, "epilogue": "relu6"}),
    "direct_5x5": ("conv_direct", (32, 64, 15, 5), {"epilogue": "bias"}),
    "first": ("conv_direct", (3, 32, 64, 3), {"stride": 2, "epilogue": "relu6", "in_block": 0}),
}
"""Name → template, (channels in, channels out, size, kernel), the rest of the case."""


def hot_loop(name: str, target_name: str) -> Block:
    target = lookup(target_name)
    template_name, numbers, more = SHAPES[name]
    block = target.lanes(32)
    case: ConvCase = square(*numbers, **{"in_block": block, "out_block": block, **more})
    template = first_match(case, target)
    assert template.name == template_name
    return hot_block(assembly(case, template, target))


@pytest.mark.parametrize("target_name", VECTORS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_hot_loop_holds_full_vectors_and_keeps_its_sums_in_registers(name: str, target_name: str) -> None:
    loop = hot_loop(name, target_name)
    target = lookup(target_name)
    # Enough independent sums to cover the latency of an FMA, and most instructions do arithmetic.
    assert len(loop.accumulators) >= target.fma_latency * target.fma_per_cycle
    assert len(loop.fmas) >= 0.4 * len(loop.instructions)
    assert all(VECTORS[target_name] in line for line in loop.fmas)
    assert loop.spilled_accumulators == []
    # A first layer on sixteen registers also keeps a few weights on the stack.
    limit = 0.25 if name == "first" and target.vector_registers == 16 else 0.05
    assert len(loop.spills) <= limit * len(loop.fmas)


def test_blocks_and_spills_are_recognised() -> None:
    text = "\n".join(
        (
            ".LBB0_1:",
            "\tvmovups\t64(%rsp), %zmm3",
            "\tvfmadd231ps\t%zmm2, %zmm1, %zmm3",
            "\tvmovups\t%zmm3, 64(%rsp)",
            "\tjne\t.LBB0_1",
        )
    )
    (block,) = loop_blocks(text)
    assert block.accumulators == {"zmm3"} and len(block.spills) == 2 and len(block.spilled_accumulators) == 1
    arm = "\n".join([".LBB0_1:", "\tldr\tq5, [sp, #16]", "\tfmla\tv5.4s, v1.4s, v2.s[0]", "\tstr\tq5, [sp, #16]"])
    (block,) = loop_blocks(arm + "\n\tb.ne\t.LBB0_1")
    assert block.accumulators == {"v5"} and len(block.spills) == 2 and len(block.spilled_accumulators) == 1


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Shapes and attributes of a convolution: channels 1 to 130, sizes 1 to 57, strides, dilations, padding, groups."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilations = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padding = draw(st.tuples(*(st.integers(0, reach[axis % 2] - 1) for axis in range(4))))
    smallest = [max(1, r - padding[a] - padding[a + 2]) for a, r in enumerate(reach)]
    kind = draw(st.sampled_from(["dense", "dense", "depthwise", "grouped"]))
    groups = 1 if kind == "dense" else draw(st.integers(2, 130 if kind == "depthwise" else 5))
    most = 130 // groups
    inner = 1 if kind == "depthwise" else draw(st.integers(1, most))
    outer = 1 if kind == "depthwise" else draw(st.integers(1, most))
    return {
        "kernel": kernel,
        "dilations": dilations,
        "padding": padding,
        "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "groups": groups,
        "channels": (inner * groups, outer * groups),
        "size": tuple(draw(st.integers(low, max(low, 57))) for low in smallest),
        "activation": draw(st.booleans()),
    }


def check_network(numbers: dict[str, Any], seed: int) -> None:
    """A network of one convolution with bias, through layout assignment and code generation, against the evaluator."""
    random = np.random.default_rng(seed)
    inner, outer = numbers["channels"]
    groups = numbers["groups"]
    builder = Builder("net")
    x = builder.input("x", f"float32[1, {inner}, {numbers['size'][0]}, {numbers['size'][1]}]")
    weight = random.standard_normal((outer, inner // groups, *numbers["kernel"])).astype(np.float32)
    bias = random.standard_normal(outer).astype(np.float32)
    attributes = {key: numbers[key] for key in ("strides", "dilations", "padding", "groups")}
    y = builder.conv(x, weight, bias, **attributes)
    graph = builder.outputs(y=builder.relu(y) if numbers["activation"] else y)
    inputs = {"x": random.standard_normal((1, inner, *numbers["size"])).astype(np.float32)}
    expected = evaluate(graph, inputs)["y"]
    target = lookup("host").with_cores(2)
    default_pipeline(target).run(graph, PassContext(target=target))
    found = Runner(graph, build(graph, target))(inputs)["y"]
    scale = np.sqrt(inner // groups * np.prod(numbers["kernel"]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * scale)


@settings(max_examples=6)
@given(convolutions(), st.integers(0, 100))
def test_ragged_convolutions_agree_with_the_evaluator(numbers: dict[str, Any], seed: int) -> None:
    check_network(numbers, seed)


@pytest.mark.slow
@settings(max_examples=80)
@given(convolutions(), st.integers(0, 100))
def test_many_ragged_convolutions_agree_with_the_evaluator(numbers: dict[str, Any], seed: int) -> None:
    check_network(numbers, seed)
