"""The instructions of a small convolutional network on each target, after the whole way through the compiler."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeir.ir import Builder, Graph, Value
from edgeir.lowering.build import build
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup

# How a multiply-add of full vectors of floats is written, and everything that multiplies floats.
FULL_VECTORS = {
    "cortex-a53": r"fml[as]\s+v\d+\.4s, v\d+\.4s, v\d+\.(4s|s\[\d\])$",
    "cortex-a72": r"fml[as]\s+v\d+\.4s, v\d+\.4s, v\d+\.(4s|s\[\d\])$",
    "cortex-a76": r"fml[as]\s+v\d+\.4s, v\d+\.4s, v\d+\.(4s|s\[\d\])$",
    "armv7-neon": r"v(ml|fm)[as]\.f32\s+q\d+, q\d+, (q\d+|d\d+\[\d\])$",
    "x86-64-v3": r"vfn?m(add|sub)\d+ps\s.*%ymm\d+$",
    "x86-64-v4": r"vfn?m(add|sub)\d+ps\s.*%zmm\d+$",
}
ANY_MULTIPLY_ADD = r"(fn?m(la|ls|add|sub)|vn?(mla|mls|fma|fms)\.f32|vfn?m(add|sub)\d+[ps]s)\s.*"


def network() -> Graph:
    """A first convolution, a depthwise, a pointwise and a 3×3 one: each has a kernel of its own kind."""
    builder, rng = Builder("net"), np.random.default_rng(0)

    def conv(x: Value, outputs: int, inputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Value:
        weight = rng.standard_normal((outputs, inputs, kernel, kernel)).astype(np.float32)
        bias = rng.standard_normal(outputs).astype(np.float32)
        sizes = {"strides": (stride, stride), "padding": (kernel // 2,) * 4, "dilations": (1, 1), "groups": groups}
        return builder.relu(builder.conv(x, weight, bias, **sizes))

    x = builder.input("x", "float32[1, 3, 32, 32]")
    x = conv(x, 32, 3, 3, stride=2)
    x = conv(x, 32, 1, 3, groups=32)
    x = conv(x, 64, 32, 1)
    return builder.outputs(y=conv(x, 64, 64, 3))


@functools.cache
def instructions(name: str) -> tuple[str, ...]:
    """The instructions of all kernels for a target, one a line."""
    target = lookup(name)
    graph = network()
    default_pipeline(target).run(graph, PassContext(target=target))
    text = "\n".join(
        module.inspect_source("asm")
        for module in _modules(build(graph, target, 1).executable.mod)
        if module.kind == "llvm"
    )
    return tuple(line.strip() for line in text.splitlines() if re.match(r"\t[a-z]", line))


def _modules(module: Any) -> Iterator[Any]:
    yield module
    for imported in module.imports:
        yield from _modules(imported)


def matching(name: str, pattern: str) -> list[str]:
    return [line for line in instructions(name) if re.match(pattern, line)]


@pytest.mark.parametrize("name", FULL_VECTORS)
def test_multiply_adds_of_floats_fill_the_vectors(name: str) -> None:
    every, full = matching(name, ANY_MULTIPLY_ADD), matching(name, FULL_VECTORS[name])
    assert len(full) > 200
    narrow = set(every) - set(full)
    assert len(full) >= 0.95 * len(every), sorted(narrow)[:10]


def test_sse42_code_has_no_avx_instruction() -> None:
    # Every AVX instruction on vectors is encoded with VEX, and its name starts with a v.
    assert matching("x86-64-v2", r"v[a-z]") == []
    assert [line for line in instructions("x86-64-v2") if re.search(r"%[yz]mm", line)] == []
    assert len(matching("x86-64-v2", r"mulps\s.*%xmm\d+$")) > 200
    assert len(matching("x86-64-v2", r"addps\s.*%xmm\d+$")) > 200


def test_the_check_for_avx_would_find_it() -> None:
    assert len(matching("x86-64-v3", r"v[a-z]")) > 200


def test_avx2_code_has_no_avx512_register() -> None:
    assert [
        line for line in instructions("x86-64-v3") if re.search(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]", line)
    ] == []


def test_code_without_dotprod_has_no_dot_product() -> None:
    assert matching("cortex-a72", r"[su]dot\s") == []
