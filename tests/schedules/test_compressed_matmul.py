"""Products whose kernel decodes a compressed right operand: as the reference computes them, compressed in memory."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.module import Scheduled
from edgeir.lowering.run import Runner
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.compressed_matmul import CompressedMatmul
from edgeir.schedules.compressed_weights import pack_pairs
from edgeir.schedules.select import select
from edgeir.schedules.task import Task
from edgeir.targets import Target, lookup
from tests.schedules.x86_machines import machine

KINDS = ("int8", "uint8 zero", "int4", "uint4 zero", "log4", "log8", "table")


def weight(graph: Graph, kind: str, shape: tuple[int, ...], scale: np.ndarray, seed: int) -> Value:
    """A constant of that kind and what decodes it; `scale` broadcasts against it."""
    random = np.random.default_rng(seed)
    factor = graph.add_constant(scale, "scale")
    if kind.startswith("log"):
        bits = int(kind[3:])
        codes = random.integers(0, 1 << bits, shape).astype(ml_dtypes.uint4 if bits == 4 else np.uint8)
        return graph.add_node("log_dequantize", [graph.add_constant(codes, "w"), factor], {"bits": bits}).output
    if kind == "table":
        codes = graph.add_constant(random.integers(0, 16, shape).astype(ml_dtypes.uint4), "w")
        table = graph.add_constant(random.standard_normal(16).astype(np.float32), "table")
        return graph.add_node("lookup", [codes, table]).output
    name, *zero = kind.split()
    low, high = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}[name]
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    values = graph.add_constant(random.integers(low, high + 1, shape).astype(dtype), "w")
    zeros = graph.add_constant(random.integers(low, high + 1, scale.shape).astype(dtype), "zero") if zero else None
    return graph.add_node("dequantize", [values, factor, zeros]).output


def network(
    kind: str, shape: tuple[int, int, int], batch: tuple[int, ...] = (), transposed: bool = False, seed: int = 0
) -> tuple[Graph, dict[str, np.ndarray]]:
    """relu(a @ decoded + bias) with a scale for each column."""
    random = np.random.default_rng(seed)
    m, k, n = shape
    graph = Graph("net")
    a = graph.add_input("a", TensorType("float32", (*batch, m, k)))
    scale = random.uniform(0.01, 0.03, (n, 1) if transposed else (1, n)).astype(np.float32)
    b = weight(graph, kind, (n, k) if transposed else (k, n), scale, seed)
    y = graph.add_node("matmul", [a, b], {"transpose_a": False, "transpose_b": transposed}).output
    bias = graph.add_constant(random.standard_normal(n).astype(np.float32), "bias")
    y = graph.add_node("relu", [graph.add_node("add", [y, bias]).output]).output
    graph.set_outputs([("y", y)])
    return graph, {"a": random.standard_normal((*batch, m, k)).astype(np.float32)}


def check(
    graph: Graph, inputs: dict[str, np.ndarray], target: Target, config: dict[str, Any] | None = None
) -> tuple[set[str], int]:
    """Compares with the reference evaluator; returns the templates of the kernels and the bytes of the constants."""
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))

    def scheduler(task: Task) -> Scheduled:
        template = select(task, target)
        chosen: Any = template.default(task, target)
        if config is not None and template.name == CompressedMatmul.name:
            chosen = config
        return Scheduled(task, template.name, chosen, template.apply(task, chosen, target))

    lowered = build(graph, target, scheduler=scheduler)
    found = Runner(graph, lowered)(inputs)["y"]
    # Rounding of sums of K products, each at most a few units in size.
    tolerance = 1e-6 * float(np.abs(expected).max(initial=1.0)) * inputs["a"].shape[-1] ** 0.5 * 8
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance)
    return {scheduled.template for scheduled in lowered.kernels}, lowered.constant_bytes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 64, 96), (13, 33, 45)], ids=str)
@pytest.mark.parametrize("name", ["x86-64-v2", "host"])
def test_products_are_the_reference_s(name: str, shape: tuple[int, int, int], kind: str) -> None:
    target = machine(name, 1)
    templates, _ = check(*network(kind, shape), target)
    assert templates == {CompressedMatmul.name}


@settings(max_examples=12)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(1, 20), st.integers(2, 70), st.integers(2, 80)),
    batch=st.sampled_from([(), (2,), (1, 3)]),
    transposed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_product_is_the_reference_s(
    kind: str, shape: tuple[int, int, int], batch: tuple[int, ...], transposed: bool, seed: int
) -> None:
    check(*network(kind, shape, batch, transposed, seed), lookup("host").with_cores(2))


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("int4", 4), ("log4", 4)])
def test_memory_holds_the_bits_of_the_weight(kind: str, bits: int) -> None:
    """And the bias and, for each column, the scale; nothing is decoded before the kernel runs."""
    target = lookup("x86-64-v2").with_cores(1)
    _, constants = check(*network(kind, (5, 128, 64)), target)
    assert constants == 128 * 64 * bits // 8 + 64 * 4 + 64 * 4


def test_a_panel_is_decoded_for_all_its_rows() -> None:
    """The buffer holds one panel, not the matrix; one row needs none."""
    target = lookup("x86-64-v2").with_cores(1)
    template = CompressedMatmul()
    workspaces = []
    for rows in (40, 1):
        graph, _ = network("int8", (rows, 128, 96))
        FuseOperators().run(graph, PassContext(target=target))
        task = lower_node(next(iter(graph.nodes)), "kernel").task
        config = template.default(task, target)
        assert config["decode"] == ("panel" if rows > 1 else "inner")
        workspaces.append((template.apply(task, config, target).workspace_bytes, config))
    width = int(workspaces[0][1]["vectors"]) * target.lanes()
    assert 128 * width * 4 <= workspaces[0][0] < 128 * width * 4 + 4096 < 128 * 96 * 4
    assert workspaces[1][0] < 1024


@pytest.mark.parametrize("kind", ["int8", "int4", "uint4 zero"])
@pytest.mark.parametrize("decode", ["panel", "inner"])
@pytest.mark.parametrize("tile", [(1, 1), (3, 2), (5, 3)], ids=str)
def test_every_knob_computes_the_same(tile: tuple[int, int], decode: str, kind: str) -> None:
    config = {"rows": tile[0], "vectors": tile[1], "decode": decode}
    check(*network(kind, (11, 31, 50)), lookup("x86-64-v2").with_cores(1), config)


def test_a_config_outside_the_space_is_refused() -> None:
    target = lookup("x86-64-v2").with_cores(1)
    graph, _ = network("int8", (4, 8, 16))
    FuseOperators().run(graph, PassContext(target=target))
    task = lower_node(next(iter(graph.nodes)), "kernel").task
    for config in ({"rows": 1}, {"rows": 99, "vectors": 1, "decode": "inner"}, {"rows": 1, "vectors": 1, "decode": ""}):
        with pytest.raises(EdgeIRError):
            CompressedMatmul().apply(task, config, target)


def test_pairs_share_a_byte() -> None:
    array = np.array([[-8, 7], [3, -1], [0, 5]], np.int8)
    packed = pack_pairs(array, 1)
    assert packed.dtype == np.int8 and packed.shape == (3, 1)
    low, high = packed.view(np.uint8) & 15, packed.view(np.uint8) >> 4
    np.testing.assert_array_equal(np.concatenate([low, high], 1), array.view(np.uint8) & 15)
    # The last of an odd number has a byte of its own.
    np.testing.assert_array_equal(pack_pairs(array, 0).view(np.uint8), [[0x38, 0xF7], [0x00, 0x05]])


def test_a_weight_that_something_else_reads_is_not_taken() -> None:
    graph = Graph("net")
    a = graph.add_input("a", TensorType("float32", (4, 8)))
    b = weight(graph, "int8", (8, 16), np.ones((1, 16), np.float32), 0)
    flags = {"transpose_a": False, "transpose_b": False}
    y = graph.add_node("matmul", [a, b], flags).output
    graph.set_outputs([("y", y), ("b", b)])
    inputs = {"a": np.ones((4, 8), np.float32)}
    expected = evaluate(graph, inputs)
    target = lookup("x86-64-v2").with_cores(1)
    FuseOperators().run(graph, PassContext(target=target))
    found = Runner(graph, build(graph, target))(inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5)
