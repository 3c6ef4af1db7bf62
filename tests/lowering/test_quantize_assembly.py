"""Quantization with a scale of 1 is a few vector instructions: no division, no rounding of its own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from edgeir.ir import Builder
from edgeir.lowering.build import build
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup

F = np.float32


def instructions(name: str, dtype: str, zero: int) -> list[str]:
    """The instructions of a kernel quantize(dequantize(sum) + dequantize(q))."""
    target = lookup(name)
    b = Builder("case")
    total, q = b.input("total", "int32[4096]"), b.input("q", f"{dtype}[4096]")
    y = b.add(b.dequantize(total, F(0.01)), b.dequantize(q, F(0.02), np.array(zero, dtype)))
    graph = b.outputs(y=b.quantize(y, F(0.05), np.array(zero, dtype)))
    default_pipeline(target).run(graph, PassContext(target=target, keep_reproducer=False))
    assert len(graph) == 1
    module = build(graph, target, 1).executable.mod
    found: list[str] = []
    pending: list[Any] = [module]
    while pending:
        item = pending.pop()
        pending.extend(item.imports)
        if item.kind == "llvm":
            found += re.findall(r"^\t([a-z]\S*)", item.inspect_source("asm"), re.M)
    return found


@pytest.mark.parametrize(
    ("target", "dtype", "zero", "narrow"),
    [("x86-64-v4", "uint8", 128, "vpmovdb"), ("x86-64-v3", "uint8", 3, "vpshufb"), ("cortex-a76", "int8", 0, "uzp1")],
)
def test_quantization_is_a_clamp_and_an_addition(target: str, dtype: str, zero: int, narrow: str) -> None:
    found = instructions(target, dtype, zero)
    assert any(name.startswith(narrow) for name in found), "elements are narrowed as vectors"
    slow = [n for n in found if re.match(r"v?(f?div|round|cvtt?ps2|frint|fcvt[nz])", n) and not n.startswith("div")]
    assert slow == []
