"""Sparse convolutions and products, compiled through lowering, against the reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  registers the operators
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, TensorType
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import Lowered, build, default_scheduler
from edgeir.lowering.module import Scheduled, plan
from edgeir.lowering.run import Runner
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.sparse_storage import pattern_of
from edgeir.schedules.sparse_template import SparseMatmul, SparsePointwise
from edgeir.schedules.task import Task
from edgeir.targets import lookup
from edgeir.targets.target import Target
from tests.schedules.test_conv_templates import NEEDED, runs_here

TARGETS = {"sse": "x86-64-v2", "avx2": "x86-64-v3", "host": "host"}


def machine(name: str) -> Target:
    target = lookup(TARGETS[name])
    if name in NEEDED and not runs_here(Target(name, target.triple)):
        pytest.skip(f"this machine cannot run {target.name}")
    return target


def sparse(rng: np.random.Generator, shape: tuple[int, ...], zeros: float) -> np.ndarray:
    """Normal numbers, of which the smallest are zeros."""
    array = rng.standard_normal(shape).astype(np.float32)
    order = np.argsort(np.abs(array), axis=None)
    array.reshape(-1)[order[: round(zeros * array.size)]] = 0
    return array


def conv_graph(
    weight: np.ndarray,
    spatial: tuple[int, int],
    blocks: tuple[int, int],
    batch: int = 1,
    epilogue: str = "residual",
) -> Graph:
    """A pointwise convolution with a bias, a residual addition and an activation, fused."""
    rng = np.random.default_rng(1)
    outputs, inputs = weight.shape[:2]
    layouts = [f"NCHW{block}c" if block else "" for block in blocks]
    b = Builder("sparse")
    x = b.input("x", TensorType("float32", (batch, inputs, *spatial), layout=layouts[0]))
    operands: list[Any] = [x, weight]
    if epilogue != "none":
        operands.append(rng.standard_normal(outputs).astype(np.float32))
    y: Any = b.node(
        "conv", *operands, output_layout=layouts[1], strides=(1, 1), padding=(0,) * 4, dilations=(1, 1), groups=1
    ).output
    if epilogue == "residual":
        r = b.input("r", TensorType("float32", (batch, outputs, *spatial), layout=layouts[1]))
        y = b.node("relu", b.node("add", y, r).output).output
    elif epilogue == "sigmoid":
        y = b.node("sigmoid", y).output
    elif epilogue == "row":
        row = b.input("r", TensorType("float32", (1, 1, 1, spatial[1])))
        y = b.node("mul", y, row).output if not blocks[1] else b.node("relu", y).output
    graph = b.outputs(y=y)
    FuseOperators().run(graph, PassContext())
    return graph


def matmul_graph(weight: np.ndarray, rows: tuple[int, ...], transpose: bool = False, epilogue: bool = True) -> Graph:
    """A product with a sparse right operand, a bias for each column, and an activation, fused."""
    rng = np.random.default_rng(2)
    depth, columns = weight.shape
    b = Builder("sparse")
    x = b.input("x", TensorType("float32", (*rows, depth)))
    right = np.ascontiguousarray(weight.T) if transpose else weight
    y: Any = b.node("matmul", x, right, transpose_b=transpose).output
    if epilogue:
        r = b.input("r", TensorType("float32", (*rows, columns)))
        biased = b.node("add", y, rng.standard_normal(columns).astype(np.float32)).output
        y = b.node("relu", b.node("add", biased, r).output).output
    graph = b.outputs(y=y)
    FuseOperators().run(graph, PassContext())
    return graph


def check(graph: Graph, target: Target, threads: int = 1, **config: int) -> Lowered:
    """Compiles with the sparse template, whatever is estimated of it; the outputs agree with the reference."""
    target = target.with_cores(threads)
    template = SparsePointwise() if "conv" in str(graph) else SparseMatmul()

    def schedule(task: Task) -> Scheduled:
        if not template.match(task, target):
            assert task.anchor not in ("conv", "matmul"), "the template does not match"
            return default_scheduler(target)(task)
        chosen = {**template.default(task, target), **config}
        kernel = template.apply(task, chosen, target)
        assert kernel.workspace_bytes >= 0
        return Scheduled(task, template.name, chosen, kernel)

    rng = np.random.default_rng(3)
    inputs = {v.name: rng.standard_normal(v.type.static_shape).astype(np.float32) for v in graph.inputs}
    expected = evaluate(graph, inputs)
    lowered = build(graph, target, threads, schedule)
    assert template.name in [kernel.template for kernel in lowered.kernels]
    got = Runner(graph, lowered)(inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=2e-5, atol=2e-5 * np.sqrt(weight_depth(graph)))
    return lowered


def weight_depth(graph: Graph) -> int:
    return max(value.data.size // max(value.data.shape) for value in graph.constants if value.data.ndim > 1)


CONVOLUTIONS = {
    "whole": (32, 24, (14, 14), 8, 1, "residual"),
    "ragged_channels": (21, 35, (9, 7), 8, 1, "residual"),
    "ragged_positions": (16, 16, (7, 7), 8, 2, "sigmoid"),
    "no_epilogue": (24, 40, (5, 5), 8, 1, "none"),
    "one_row": (12, 8, (1, 11), 4, 3, "residual"),
    "wide": (40, 72, (6, 6), 16, 1, "residual"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("target", ["avx2", "host"])
def test_blocked_convolutions(name: str, target: str) -> None:
    inputs, outputs, spatial, block, batch, epilogue = CONVOLUTIONS[name]
    weight = sparse(np.random.default_rng(0), (outputs, inputs, 1, 1), 0.85)
    check(conv_graph(weight, spatial, (block, block), batch, epilogue), machine(target))


@pytest.mark.parametrize("blocks", [(0, 0), (8, 0), (0, 8)], ids=str)
@pytest.mark.parametrize("epilogue", ["none", "residual", "row"])
def test_plain_layouts(blocks: tuple[int, int], epilogue: str) -> None:
    weight = sparse(np.random.default_rng(0), (19, 24, 1, 1), 0.8)
    check(conv_graph(weight, (6, 5), blocks, 2, epilogue), machine("avx2"))


@pytest.mark.parametrize("rows", [(1,), (3,), (64,), (2, 11), (1, 37)], ids=str)
@pytest.mark.parametrize("transpose", [False, True])
def test_products(rows: tuple[int, ...], transpose: bool) -> None:
    weight = sparse(np.random.default_rng(0), (45, 50), 0.9)
    check(matmul_graph(weight, rows, transpose), machine("avx2"))


def test_products_without_an_epilogue() -> None:
    weight = sparse(np.random.default_rng(0), (64, 32), 0.7)
    check(matmul_graph(weight, (16,), epilogue=False), machine("avx2"))
    check(matmul_graph(weight, (1,), epilogue=False), machine("avx2"))


@pytest.mark.parametrize("outputs", [1, 7, 8, 16])
def test_narrow_products(outputs: int) -> None:
    weight = sparse(np.random.default_rng(0), (64, outputs), 0.9)
    check(matmul_graph(weight, (20,)), machine("avx2"))
    check(matmul_graph(weight, (2,)), machine("avx2"))


def test_empty_rows_and_no_weights_at_all() -> None:
    weight = np.zeros((16, 24, 1, 1), np.float32)
    check(conv_graph(weight, (7, 7), (8, 8)), machine("avx2"))
    weight[3, 5] = 2.0
    check(conv_graph(weight, (7, 7), (8, 8)), machine("avx2"))
    check(matmul_graph(np.zeros((20, 20), np.float32), (1,)), machine("avx2"))


def test_full_rows_among_empty_ones() -> None:
    weight = np.zeros((40, 23, 1, 1), np.float32)
    weight[::5] = np.random.default_rng(0).standard_normal((8, 23, 1, 1))
    check(conv_graph(weight, (8, 8), (8, 8)), machine("avx2"))


@pytest.mark.parametrize("pattern", ["2:4", "blocks"])
def test_regular_patterns(pattern: str) -> None:
    weight = np.random.default_rng(0).standard_normal((32, 32, 1, 1)).astype(np.float32)
    if pattern == "2:4":
        weight.reshape(-1, 8)[:, [1, 2, 3, 5, 7]] = 0
    else:
        weight.reshape(4, 8, 4, 8)[np.arange(4) != 2] = 0
    check(conv_graph(weight, (10, 10), (8, 8)), machine("avx2"))


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_threads(pieces: int) -> None:
    weight = sparse(np.random.default_rng(0), (64, 96, 1, 1), 0.8)
    lowered = check(conv_graph(weight, (20, 21), (8, 8)), machine("avx2"), threads=2, pieces=pieces)
    assert lowered.workspace_bytes > 0
    dense = sparse(np.random.default_rng(0), (640, 999), 0.8)
    check(matmul_graph(dense, (1,)), machine("avx2"), threads=2)


def test_every_end_of_the_space() -> None:
    weight = sparse(np.random.default_rng(0), (24, 20, 1, 1), 0.8)
    graph, target = conv_graph(weight, (11, 9), (8, 8)), machine("avx2").with_cores(2)
    (task,) = [step.lowering.task for step in plan(graph) if step.lowering is not None]
    space = SparsePointwise().space(task, target)
    for knob, values in space.items():
        for value in {values[0], values[-1]}:
            check(graph, target, 2, **{knob: int(value)})
    with pytest.raises(EdgeIRError, match="vectors"):
        SparsePointwise().apply(task, {"vectors": 99, "pieces": 1}, target)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Graph, str]:
    target = draw(st.sampled_from(list(TARGETS)))
    block = draw(st.sampled_from([4, 8, 16]))
    inputs, outputs = draw(st.integers(2, 70)), draw(st.integers(1, 70))
    spatial = (draw(st.integers(1, 15)), draw(st.integers(16, 24)))
    zeros = draw(st.sampled_from([0.61, 0.8, 0.97, 1.0]))
    weight = sparse(np.random.default_rng(draw(st.integers(0, 99))), (outputs, inputs, 1, 1), zeros)
    blocks = (draw(st.sampled_from([0, block])), draw(st.sampled_from([0, block])))
    epilogue = draw(st.sampled_from(["none", "residual", "sigmoid", "row"]))
    if pattern_of(weight.reshape(outputs, inputs)) is None:
        weight[...] = 0
    return conv_graph(weight, spatial, blocks, draw(st.integers(1, 2)), epilogue), target


@settings(max_examples=12, derandomize=True)
@given(convolutions())
def test_random_convolutions(case: tuple[Graph, str]) -> None:
    check(case[0], machine(case[1]))


@settings(max_examples=12, derandomize=True)
@given(
    st.sampled_from(list(TARGETS)),
    st.tuples(st.integers(2, 90), st.integers(1, 90)),
    st.sampled_from([(1,), (5,), (17,), (33,), (2, 9), (3, 1, 4)]),
    st.booleans(),
    st.sampled_from([0.65, 0.9, 1.0]),
)
def test_random_products(
    target: str, shape: tuple[int, int], rows: tuple[int, ...], transpose: bool, zeros: float
) -> None:
    weight = sparse(np.random.default_rng(0), shape, zeros)
    if pattern_of(weight.T) is None:
        weight[...] = 0
    check(matmul_graph(weight, rows, transpose), machine(target))
