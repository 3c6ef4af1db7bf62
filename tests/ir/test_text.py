"""The text form: printing and parsing are inverse."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401
from edgeir.ir import Builder, Graph, TensorType, load_graph, parse_graph, print_graph, save_graph, symbol
from edgeir.ir.dtype import DTYPES, numpy_dtype
from edgeir.ir.storage import large_constants
from tests.strategies import graphs


def assert_identical(found: Graph, expected: Graph) -> None:
    """The same text, and constants with the same bytes."""
    assert print_graph(found) == print_graph(expected)
    for left, right in zip(found.constants, expected.constants, strict=True):
        assert left.data.dtype == right.data.dtype and left.data.tobytes() == right.data.tobytes()
        assert left.digest == right.digest


@given(graphs())
@settings(max_examples=60)
def test_random_graphs_read_back(graph: Graph) -> None:
    assert_identical(parse_graph(print_graph(graph), large_constants(graph)), graph)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4, unique=True), st.text(max_size=12))
def test_any_name_reads_back(names: list[str], location: str) -> None:
    graph = Graph(names[0])
    values = [graph.add_input(name, TensorType("float32", (2,))) for name in names]
    node = graph.add_node("relu", [values[-1]], names=[names[0]], location=location)
    graph.set_outputs([(name, node.output) for name in names])
    assert_identical(parse_graph(print_graph(graph)), graph)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_element_type_reads_back(dtype: str) -> None:
    codes = np.arange(256, dtype=np.uint8)
    if dtype == "bool":
        elements = codes[:2].astype(bool)
    elif "int4" in dtype:
        elements = (codes[:16].astype(np.int8) - (8 if dtype == "int4" else 0)).astype(numpy_dtype(dtype))
    elif "int" in dtype:
        information = np.iinfo(dtype)
        elements = np.array([information.min, information.max, 0, 1], dtype)
    else:
        size = numpy_dtype(dtype).itemsize
        elements = np.random.default_rng(0).integers(0, 256, 16 * size, dtype=np.uint8).view(numpy_dtype(dtype))
        elements = np.where(np.isnan(elements.astype(np.float64)), np.zeros((), elements.dtype), elements)
    builder = Builder()
    constants = [builder.constant(part) for part in np.array_split(elements, 1 + elements.size // 12)]
    graph = builder.outputs(**{f"y{i}": value for i, value in enumerate(constants)})
    assert_identical(parse_graph(print_graph(graph)), graph)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_special_floats_read_back(dtype: type) -> None:
    items = [np.inf, -np.inf, 0.0, -0.0, 1e-40, 0.1, 65504.0, 1 / 3]
    array = np.array(items).astype(dtype)
    builder = Builder()
    graph = builder.outputs(y=builder.constant(array))
    assert_identical(parse_graph(print_graph(graph)), graph)
    with_nan = Builder()
    graph = with_nan.outputs(y=with_nan.constant(np.array([np.nan, 1.0]).astype(dtype)))
    (read,) = parse_graph(print_graph(graph)).constants
    assert np.isnan(read.data.astype(np.float64)).tolist() == [True, False]


@given(st.floats(width=32), st.floats())
def test_float_attributes_read_back(low: float, high: float) -> None:
    builder = Builder()
    x = builder.input("x", "float32[2]")
    graph = builder.outputs(y=builder.clip(x, minimum=low, maximum=high))
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text
    (node,) = parse_graph(text).nodes
    assert repr(node.attributes["minimum"]) == repr(low) and repr(node.attributes["maximum"]) == repr(high)


def test_symbolic_dimensions_read_back() -> None:
    batch, height = symbol("batch"), symbol("H.in")
    builder = Builder("symbolic")
    x = builder.input("x", TensorType("float32", (batch, 3, height, 8)))
    flat = builder.reshape(x, shape=(batch * 3, height * 8))
    parts = builder.slice(flat, starts=(0, height // 2), sizes=(batch * 3, height * 8 - height // 2), steps=(1, 1))
    length = builder.iota(size=batch * 3 + (height + 1) // 2)
    graph = builder.outputs(y=parts, shape=builder.dims(values=(batch, height // 2, 7)), n=length)
    assert_identical(parse_graph(print_graph(graph)), graph)


def fused_graph() -> Graph:
    body = Builder("multiply add")
    a, b = body.input("a", "float32[2, 3]"), body.input("b", "float32[3]")
    inner = body.outputs(r=body.relu(body.add(body.mul(a, np.array([2.5], np.float32)), b)))
    builder = Builder("outer")
    x = builder.input("x", "float32[2, 3]")
    weight = builder.constant(np.array([1, 2, 3], np.float32))
    graph = builder.outputs(y=builder.tanh(builder.fused(x, weight, body=inner, anchor="mul")))
    return graph


def test_fused_bodies_read_back() -> None:
    graph = fused_graph()
    read = parse_graph(print_graph(graph))
    assert_identical(read, graph)
    (fused,) = [node for node in read.nodes if node.op == "fused"]
    assert_identical(fused.attributes["body"], next(graph.nodes).attributes["body"])


def test_blocked_layouts_and_absent_operands_read_back() -> None:
    builder = Builder()
    x = builder.input("x", "float32[1, 16, 4, 4]")
    w = builder.constant(np.ones((16, 16, 1, 1), np.float32))
    blocked = builder.graph.add_node("layout_cast", [x], {"layout": "NCHW8c"}).output
    y = builder.node(
        "conv", blocked, w, output_layout="NCHW8c", strides=(1, 1), padding=(0, 0, 0, 0), dilations=(1, 1)
    ).output
    plain = builder.graph.add_node("layout_cast", [builder.relu(y)], {"layout": ""}).output
    normed = builder.layer_norm(plain, np.ones((4,), np.float32), None, axis=3, epsilon=1e-5)
    graph = builder.outputs(y=normed)
    assert "{NCHW8c}" in print_graph(graph)
    assert_identical(parse_graph(print_graph(graph), large_constants(graph)), graph)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2fnuz", "int4", "bool", "uint64"])
def test_large_constants_are_saved_beside_the_text(tmp_path: Path, dtype: str) -> None:
    data = (np.arange(40).reshape(5, 8) % 2).astype(numpy_dtype(dtype))
    builder = Builder("large")
    x = builder.input("x", TensorType(dtype, (8,)))
    constant = builder.constant(data)
    graph = builder.outputs(y=builder.concat(builder.reshape(x, shape=(1, 8)), constant, axis=0), w=constant)
    path = tmp_path / "graph.txt"
    save_graph(graph, path)
    assert (tmp_path / "graph.txt.npz").exists()
    assert "sha256:" in path.read_text()
    assert_identical(load_graph(path), graph)


def test_saving_a_small_graph_leaves_no_stale_data(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    for size in (40, 2):
        builder = Builder()
        graph = builder.outputs(y=builder.constant(np.zeros(size, np.float32)))
        save_graph(graph, path)
        assert (tmp_path / "graph.txt.npz").exists() == (size == 40)
        assert_identical(load_graph(path), graph)


def test_inputs_returned_directly_and_graphs_without_inputs() -> None:
    builder = Builder("")
    x = builder.input("x", "int8[]")
    graph = builder.outputs(a=x, b=x, c=builder.iota(size=0))
    assert_identical(parse_graph(print_graph(graph)), graph)
    empty = Graph("nothing")
    assert_identical(parse_graph(print_graph(empty)), empty)
