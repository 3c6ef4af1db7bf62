"""Integer products of computed operands are exact for every shape, signedness and zero point."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Value
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.schedules.integer_matmul_computed import IntegerMatmulComputed
from edgeir.schedules.task import Task
from edgeir.targets import Target, lookup
from tests.lowering.integer_computed_products import BASE, SHAPES, computed_product, computed_products
from tests.schedules.x86_machines import machine, targets


def check(numbers: dict[str, Any], target: Target, seed: int = 0) -> set[str]:
    """Compares a network with the reference evaluator, bit by bit; returns the templates of its kernels."""
    graph, inputs = computed_product(numbers, seed)
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    lowered = build(graph, target)
    np.testing.assert_array_equal(Runner(graph, lowered)(inputs)["y"], expected)
    return {scheduled.template for scheduled in lowered.kernels}


def task_of(numbers: dict[str, Any], target: Target) -> Task:
    graph, _ = computed_product(numbers)
    FuseOperators().run(graph, PassContext(target=target))
    return lower_node(next(node for node in graph.nodes if node.op == "fused"), "kernel").task


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", targets())
def test_sums_are_exact(name: str, shape: str, caplog: pytest.LogCaptureFixture) -> None:
    assert check(BASE | SHAPES[shape], lookup(name).with_cores(1)) == {IntegerMatmulComputed.name}
    assert "does not apply" not in caplog.text


@pytest.mark.parametrize("name", ["host", "x86-64-v3"])
@settings(max_examples=15)
@given(numbers=computed_products(), seed=st.integers(0, 1000))
def test_any_product_is_exact(name: str, numbers: dict[str, Any], seed: int) -> None:
    check(numbers, machine(name, 2), seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", targets())
@settings(max_examples=60)
@given(numbers=computed_products(), seed=st.integers(0, 10**6))
def test_any_product_is_exact_everywhere(name: str, numbers: dict[str, Any], seed: int) -> None:
    check(numbers, lookup(name).with_cores(2), seed)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("x86-64-v4+avx512vnni", r"vpdpbusd\s.*%zmm"),
        ("x86-64-v3+avxvnni", r"vpdpbusd\s.*%ymm"),
        ("x86-64-v3", r"vpmaddwd\s.*%ymm"),
        ("cortex-a76", r"sdot\s.*\.4s"),
    ],
)
@pytest.mark.parametrize("shape", ["attention", "values"])
def test_inner_products_are_the_machines_own(name: str, pattern: str, shape: str) -> None:
    target = lookup(name).with_cores(1)
    task, template = task_of(BASE | SHAPES[shape], target), IntegerMatmulComputed()
    assert template.match(task, target)
    kernel = template.apply(task, template.default(task, target), target)
    built: Any = tvm.tirx.build(kernel.func, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir")
    assert len(re.findall(rf"\s{pattern}", built.inspect_source("s"))) >= 4


def test_machines_without_an_inner_product_of_whole_quads_leave_it_to_others() -> None:
    for name in ("cortex-a72", "riscv64-linux-gnu"):
        target = lookup(name)
        assert not IntegerMatmulComputed().match(task_of(BASE, target), target)


def test_a_config_outside_the_space_is_refused() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    task = task_of(BASE, target)
    for config in ({"rows": 1}, {"rows": 99, "vectors": 1}, {"rows": 1, "vectors": 1, "other": 2}):
        with pytest.raises(EdgeIRError):
            IntegerMatmulComputed().apply(task, config, target)


def test_quantized_attention_multiplies_bytes() -> None:
    """QKᵀ and PV of a network in QDQ form, in two kernels beside the softmax's."""
    random, target = np.random.default_rng(0), machine("host", 1)
    b = Builder("attention")

    def quantized(x: Value, scale: float, zero: int) -> Value:
        step, point = np.float32(scale), np.uint8(zero)
        return b.dequantize(b.quantize(x, step, point), step, point)

    q, k, v = (quantized(b.input(name, "float32[1, 2, 10, 24]"), 0.03, 125) for name in "qkv")
    scores = quantized(b.mul(b.matmul(q, k, transpose_b=True), np.float32(24**-0.5)), 0.05, 128)
    shares = quantized(b.softmax(scores, axis=3), 1 / 255, 0)
    graph = b.outputs(y=b.quantize(b.matmul(shares, v), np.float32(0.02), np.uint8(128)))
    inputs = {name: random.standard_normal((1, 2, 10, 24)).astype(np.float32) for name in "qkv"}
    expected = evaluate(graph, inputs)["y"]
    default_pipeline(target).run(graph, PassContext(target=target))
    lowered = build(graph, target)
    kernels = [kernel for kernel in lowered.kernels if kernel.task.anchor == "matmul_integer"]
    assert [kernel.template for kernel in kernels] == [IntegerMatmulComputed.name] * 2
    apart = np.abs(Runner(graph, lowered)(inputs)["y"].astype(int) - expected.astype(int))
    assert apart.max() <= 1 and apart.mean() < 0.05
