"""Integer kernels that look up their weights compute exactly what the reference computes, from codes in memory."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.compressed_integer import CompressedInteger
from edgeir.schedules.compressed_packing import PackedForm
from edgeir.targets import lookup
from tests.schedules.x86_machines import machine

POWERS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 0, -1, -2, -4, -8, -16, -32, -64], np.int8)
CHANNELS = 20


def weight(graph: Graph, shape: tuple[int, ...], kind: str) -> Value:
    codes = np.random.default_rng(0).integers(0, 16, shape)
    if kind == "int4":
        return graph.add_constant((codes - 8).astype(ml_dtypes.int4), "w")
    codes = codes.astype(ml_dtypes.uint4)
    return graph.add_node("lookup", [graph.add_constant(codes, "codes"), graph.add_constant(POWERS, "table")]).output


def check(graph: Graph, inputs: dict[str, np.ndarray], name: str) -> int:
    target = lookup(name).with_cores(1)
    expected = evaluate(graph, inputs)["y"]
    FuseOperators().run(graph, PassContext(target=target))
    lowered = build(graph, target)
    assert CompressedInteger.name in {scheduled.template for scheduled in lowered.kernels}
    np.testing.assert_array_equal(Runner(graph, lowered)(inputs)["y"], expected)
    return lowered.constant_bytes


@pytest.mark.parametrize("kind", ["table", "int4"])
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "host"])
def test_depthwise_convolutions_are_exact(name: str, kind: str) -> None:
    layout = f"NCHW{machine(name, 1).lanes(32)}c"
    graph = Graph("net")
    x = graph.add_input("x", TensorType("uint8", (1, CHANNELS, 9, 10)))
    image = graph.add_node("layout_cast", [x], {"layout": layout}, output_layouts=[layout]).output
    w = weight(graph, (CHANNELS, 1, 3, 3), kind)
    zero = graph.add_constant(np.uint8(131), "zero")
    attributes = {"strides": (1, 1), "padding": (1,) * 4, "dilations": (1, 1), "groups": CHANNELS}
    y = graph.add_node("conv_integer", [image, w, None, zero], attributes, output_layouts=[layout]).output
    y = graph.add_node("layout_cast", [y], {"layout": ""}, output_layouts=[""]).output
    graph.set_outputs([("y", y)])
    pixels = np.random.default_rng(1).choice(np.array([0, 255, 1, 200], np.uint8), (1, CHANNELS, 9, 10))
    constants = check(graph, {"x": pixels}, name)
    # Half a byte for each weight of whole blocks (a pair of which shares bytes), the table, an offset for each channel.
    lanes = machine(name, 1).lanes(32)
    blocks = -(-CHANNELS // lanes)
    assert constants <= -(-blocks // 2) * lanes * 9 + blocks * lanes * 4 + 16


@pytest.mark.parametrize("kind", ["table", "int4"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(7, 64, 48), (1, 33, 45)], ids=str)
@pytest.mark.parametrize("name", ["x86-64-v2", "host"])
def test_products_are_exact(name: str, shape: tuple[int, int, int], transposed: bool, kind: str) -> None:
    m, k, n = shape
    graph = Graph("net")
    a = graph.add_input("a", TensorType("uint8", (m, k)))
    w = weight(graph, (n, k) if transposed else (k, n), kind)
    zero = graph.add_constant(np.uint8(128), "zero")
    flags = {"transpose_a": False, "transpose_b": transposed}
    graph.set_outputs([("y", graph.add_node("matmul_integer", [a, w, zero, None], flags).output)])
    values = np.random.default_rng(1).integers(0, 256, (m, k)).astype(np.uint8)
    constants = check(graph, {"a": values}, name)
    if shape == (7, 64, 48) and name == "x86-64-v2":
        # Half a byte for each weight, the table, and the offset of the zero point for each column.
        assert 0 <= constants - 64 * 48 // 2 - 48 * 4 <= 16


@pytest.mark.parametrize(
    ("axes", "shape"),
    [((0, 1, 2, 3, 1, 0, 0), (3, 2, 3, 1, 4, 2, 8)), ((None, 1, 0, 1, 0, 1, 0), (1, 2, 5, 3, 2, 4, 2))],
)
def test_places_and_indices_are_inverse(axes: tuple[int | None, ...], shape: tuple[int, ...]) -> None:
    form = PackedForm(axes)
    rank = 1 + max(axis for axis in axes if axis is not None)
    found = set()
    for place in np.ndindex(*shape):
        index = form.logical(shape, place, rank)
        assert tuple(form.packed(shape, index)) == place
        found.add(tuple(index))
    assert found == set(np.ndindex(*(form.covered(shape, axis) for axis in range(rank))))


@pytest.mark.parametrize("kind", ["table", "int4"])
def test_a_single_row_is_exact(kind: str) -> None:
    graph = Graph("net")
    x = graph.add_input("x", TensorType("uint8", (1, 128)))
    zero = graph.add_constant(np.uint8(131), "zero")
    y = graph.add_node("matmul_integer", [x, weight(graph, (128, 96), kind), zero]).output
    graph.set_outputs([("y", y)])
    rows = np.random.default_rng(1).integers(0, 256, (1, 128)).astype(np.uint8)
    assert check(graph, {"x": rows}, "host") <= 128 * 96 // 2 + 96 * 4 + 64
