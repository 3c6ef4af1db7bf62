"""What LLVM makes of integer convolutions: the machine's inner products, their sums kept in registers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tvm

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.integer_conv import IntegerConv
from edgeir.targets import lookup
from tests.lowering.integer_networks import BASE, SHAPES, conv_network

POINTWISE = {"channels": (96, 96), "size": (14, 14), "epilogue": "quantize"} | SHAPES["pointwise"]
DIRECT = {"channels": (64, 64), "size": (14, 14), "epilogue": "residual"}
CASES = [
    ("x86-64-v4+avx512vnni", "extreme", r"vpdpbusd\s.*%zmm", 2.0),
    ("x86-64-v3+avxvnni", "extreme", r"vpdpbusd\s.*%ymm", 2.0),
    ("x86-64-v4", "pairs", r"vpmaddubsw\s.*%zmm", 4.0),
    ("x86-64-v3", "pairs", r"vpmaddubsw\s.*%ymm", 4.6),
    ("x86-64-v3", "extreme", r"vpmaddwd\s.*%ymm", 4.5),
    ("x86-64-v2", "pairs", r"pmaddubsw\s.*%xmm", 5.5),
    ("cortex-a76", "extreme", r"sdot\s.*\.4s", 1.9),
    ("cortex-a72", "symmetric", r"smlal2?\s.*\.8h", 5.5),
    ("cortex-a72", "extreme", r"smull2?\s.*\.8h", 6.0),
]
"""Target, weights, the instruction, and how many instructions the hot loop may spend on each."""


def hot_loop(text: str, instruction: re.Pattern[str]) -> list[str]:
    """The instructions between a label and a jump back to it, those with the most inner products."""
    lines = [line for line in text.splitlines() if line.startswith(("\t", ".L")) and not line.startswith("\t.")]
    labels = {line.split(":")[0]: place for place, line in enumerate(lines) if line.startswith(".L")}
    loops = []
    for place, line in enumerate(lines):
        jump = re.match(r"\s+(?:j\w+|b\.\w+|cbn?z|tbn?z)\s.*?(\.L\w+)$", line)
        if jump and labels.get(jump.group(1), place) < place:
            body = lines[labels[jump.group(1)] : place]
            inner = [other for other in body[1:] if other.startswith(".LBB")]
            if not inner:
                loops.append([other for other in body if other.startswith("\t")])
    return max(loops, key=lambda body: sum(bool(instruction.search(other)) for other in body))


@pytest.mark.parametrize("shape", ["pointwise", "direct"])
@pytest.mark.parametrize(("name", "weights", "pattern", "each"), CASES)
def test_hot_loops_consist_of_inner_products(name: str, weights: str, pattern: str, each: float, shape: str) -> None:
    target = lookup(name).with_cores(1)
    left = {"dtype": "uint8"} if target.architecture == "x86_64" else {"dtype": "int8", "x_zero": -7}
    numbers = BASE | (POINTWISE if shape == "pointwise" else DIRECT) | left | {"weights": weights}
    graph, _ = conv_network(numbers, 0, target.lanes(32))
    FuseOperators().run(graph, PassContext(target=target))
    node = next(node for node in graph.nodes if node.op == "fused" and node.attributes["anchor"] == "conv_integer")
    task, template = lower_node(node, "kernel").task, IntegerConv()
    assert template.match(task, target)
    kernel = template.apply(task, template.default(task, target), target)
    built: Any = tvm.tirx.build(kernel.func, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir")
    instruction = re.compile(rf"\s{pattern}")
    loop = hot_loop(built.inspect_source("s"), instruction)
    products = [line for line in loop if instruction.search(line)]
    assert len(products) >= 4 and len(loop) <= each * len(products), "\n".join(loop)
    stores = [line for line in loop if re.match(r"\s+(v?mov\w+\s+%[xyz]mm\d+, .*%rsp|st[rp]\s+q.*\[sp)", line)]
    # LLVM's scheduler keeps a few values of an unrolled row of the kernel on the stack.
    assert len(stores) <= 0.2 * len(products), "\n".join(stores)
