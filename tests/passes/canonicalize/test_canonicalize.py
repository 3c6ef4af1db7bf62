from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeir.ir import Builder, Graph, Value, symbol
from edgeir.passes.canonicalize.cast_rules import holds_exactly

Run = Callable[..., Graph]
Build = Callable[[Builder, Value], Value]
F = np.float32


def scalar(number: float) -> np.ndarray:
    return np.array(number, F)


def canonical(run_passes: Run, build: Build, type: str = "float32[2, 3, 4]") -> list[str]:
    b = Builder("case")
    x = b.input("x", type)
    graph = run_passes("canonicalize", b.outputs(y=build(b, x)))
    return [node.op for node in graph.nodes]


NOTHING: dict[str, Build] = {
    "x + 0": lambda b, x: b.add(x, scalar(0)),
    "0 + x": lambda b, x: b.add(np.zeros((2, 3, 4), F), x),
    "x - 0": lambda b, x: b.sub(x, scalar(0)),
    "x * 1": lambda b, x: b.mul(np.ones((1, 4), F), x),
    "x / 1": lambda b, x: b.div(x, scalar(1)),
    "x ** 1": lambda b, x: b.pow(x, scalar(1)),
    "--x": lambda b, x: b.neg(b.neg(x)),
    "where true": lambda b, x: b.where(np.ones((1, 4), bool), x, b.exp(x)),
    "where false": lambda b, x: b.where(np.zeros((), bool), b.exp(x), x),
    "cast to same": lambda b, x: b.cast(x, dtype="float32"),
    "cast there and back": lambda b, x: b.cast(b.cast(x, dtype="float64"), dtype="float32"),
    "identity transpose": lambda b, x: b.transpose(x, perm=(0, 1, 2)),
    "transposes that cancel": lambda b, x: b.transpose(b.transpose(x, perm=(2, 0, 1)), perm=(1, 2, 0)),
    "same reshape": lambda b, x: b.reshape(x, shape=(2, 3, 4)),
    "reshape there and back": lambda b, x: b.reshape(b.reshape(x, shape=(6, 4)), shape=(2, 3, 4)),
    "whole slice": lambda b, x: b.slice(x, starts=(0, 0, 0), sizes=(2, 3, 4), steps=(1, 1, 1)),
    "no pad": lambda b, x: b.pad(x, padding=(0,) * 6),
    "no expand": lambda b, x: b.expand(x, shape=(2, 3, 4)),
    "no tile": lambda b, x: b.tile(x, repeats=(1, 1, 1)),
    "concat of one": lambda b, x: b.concat(x, axis=1),
    "clip without limits": lambda b, x: b.clip(x),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_does_nothing_goes(run_passes: Run, name: str) -> None:
    assert canonical(run_passes, NOTHING[name]) == []


FEWER: dict[str, tuple[Build, list[str]]] = {
    "relu(relu)": (lambda b, x: b.relu(b.relu(x)), ["relu"]),
    "transpose(transpose)": (lambda b, x: b.transpose(b.transpose(x, perm=(2, 0, 1)), perm=(0, 2, 1)), ["transpose"]),
    "reshape(reshape)": (lambda b, x: b.reshape(b.reshape(x, shape=(6, 4)), shape=(24,)), ["reshape"]),
    "slice(slice)": (
        lambda b, x: b.slice(
            b.slice(x, starts=(1, 2, 0), sizes=(1, 3, 4), steps=(1, -1, 1)),
            starts=(0, 1, 3),
            sizes=(1, 2, 2),
            steps=(1, 1, -2),
        ),
        ["slice"],
    ),
    "expand(expand)": (
        lambda b, x: b.expand(b.expand(b.reduce_sum(x, axes=(0, 1)), shape=(1, 3, 4)), shape=(2, 3, 4)),
        ["reduce_sum", "expand"],
    ),
    "concat(concat)": (lambda b, x: b.concat(b.concat(x, x, axis=1), b.exp(x), axis=1), ["exp", "concat"]),
    "minimum": (lambda b, x: b.minimum(scalar(0.5), x), ["clip"]),
    "relu6": (lambda b, x: b.minimum(b.maximum(x, scalar(0)), scalar(6)), ["clip"]),
    "clip 0..": (lambda b, x: b.clip(x, minimum=0.0), ["relu"]),
    "clip(relu)": (lambda b, x: b.clip(b.relu(x), minimum=-1.0, maximum=0.5), ["clip"]),
    "relu(clip)": (lambda b, x: b.relu(b.clip(x, minimum=-1.0, maximum=0.5)), ["clip"]),
    "disjoint clips": (lambda b, x: b.clip(b.clip(x, minimum=2.0, maximum=3.0), maximum=1.0), ["clip"]),
    "inverted clip": (lambda b, x: b.clip(b.clip(x, minimum=0.4, maximum=0.1), minimum=0.2), ["clip"]),
    "double cast": (lambda b, x: b.cast(b.cast(x, dtype="float64"), dtype="int32"), ["cast"]),
}


@pytest.mark.parametrize("name", FEWER)
def test_chains_become_one(run_passes: Run, name: str) -> None:
    build, expected = FEWER[name]
    assert canonical(run_passes, build) == expected


KEPT: dict[str, tuple[Build, list[str]]] = {
    "zero that broadcasts": (lambda b, x: b.add(x, np.zeros((2, 1, 1, 1), F)), ["add"]),
    "0 - x": (lambda b, x: b.sub(scalar(0), x), ["sub"]),
    "1 / x": (lambda b, x: b.div(scalar(1), x), ["div"]),
    "mixed condition": (lambda b, x: b.where(np.array([True, False, True, True]), x, b.exp(x)), ["exp", "where"]),
    "narrowing cast": (lambda b, x: b.cast(b.cast(x, dtype="float16"), dtype="float32"), ["cast", "cast"]),
    "different functions": (lambda b, x: b.abs(b.floor(x)), ["floor", "abs"]),
    "vector minimum": (lambda b, x: b.minimum(x, np.arange(4).astype(F)), ["minimum"]),
    "concat along another axis": (lambda b, x: b.concat(b.concat(x, x, axis=1), axis=2), ["concat"]),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_computes_something_stays(run_passes: Run, name: str) -> None:
    build, expected = KEPT[name]
    assert canonical(run_passes, build) == expected


def test_transpose_of_unit_axes_is_a_reshape(run_passes: Run) -> None:
    assert canonical(run_passes, lambda b, x: b.transpose(x, perm=(1, 0, 2)), "float32[1, 3, 4]") == ["reshape"]
    assert canonical(run_passes, lambda b, x: b.transpose(x, perm=(0, 2, 1)), "float32[1, 3, 4]") == ["transpose"]


def test_reduction_of_unit_axes_is_a_reshape(run_passes: Run) -> None:
    build: Build = lambda b, x: b.reduce_mean(x, axes=(2,), keepdims=False)  # noqa: E731
    assert canonical(run_passes, build, "float32[2, 3, 1]") == ["reshape"]
    assert canonical(run_passes, build, "float32[2, 3, 2]") == ["reduce_mean"]


def test_transposes_join_matmul(run_passes: Run) -> None:
    b = Builder("case")
    x, y = b.input("x", "float32[2, 4, 3]"), b.input("y", "float32[2, 5, 4]")
    product = b.matmul(b.transpose(x, perm=(0, 2, 1)), b.transpose(y, perm=(0, 2, 1)))
    graph = run_passes("canonicalize", b.outputs(y=product))
    (node,) = graph.nodes
    assert (node.attributes["transpose_a"], node.attributes["transpose_b"]) == (True, True)


def test_transpose_of_batch_axes_does_not_join_matmul(run_passes: Run) -> None:
    build: Build = lambda b, x: b.matmul(b.transpose(x, perm=(1, 0, 2)), np.ones((4, 2), F))  # noqa: E731
    assert canonical(run_passes, build) == ["transpose", "matmul"]


def test_elementwise_work_moves_before_the_reshape_of_a_product(run_passes: Run) -> None:
    def build(b: Builder, x: Value) -> Value:
        product = b.matmul(b.reshape(x, shape=(6, 4)), np.arange(20).reshape(4, 5).astype(F))
        return b.relu(b.add(b.reshape(product, shape=(2, 3, 5)), np.arange(5).astype(F)))

    assert canonical(run_passes, build) == ["reshape", "matmul", "add", "relu", "reshape"]


def test_constant_along_a_changed_axis_stays_after_the_reshape(run_passes: Run) -> None:
    def build(b: Builder, x: Value) -> Value:
        product = b.matmul(x, np.ones((4, 6), F))
        return b.add(b.reshape(product, shape=(2, 9, 2)), np.arange(2).astype(F))

    assert canonical(run_passes, build) == ["matmul", "reshape", "add"]


def table_lookup(rows: int) -> Graph:
    b = Builder("case")
    indices = b.input("indices", "int64[2, 3]")
    table = (np.arange(rows * 4).reshape(rows, 4) % 100).astype(np.int8)
    scaled = b.mul(b.cast(table, dtype="float32"), np.linspace(1, 2, rows, dtype=F).reshape(rows, 1))
    return b.outputs(y=b.gather(scaled, indices, axis=0))


def test_rows_are_looked_up_before_they_are_decompressed(run_passes: Run) -> None:
    graph = run_passes("canonicalize", table_lookup(50))
    assert [node.op for node in graph.nodes] == ["gather", "gather", "dequantize"]
    assert all(value.type.shape != (50, 4) for node in graph.nodes for value in node.outputs)


def test_small_tables_are_decompressed_whole(run_passes: Run) -> None:
    assert [node.op for node in run_passes("canonicalize", table_lookup(5)).nodes] == ["dequantize", "gather"]


def test_symbolic_shapes(run_passes: Run) -> None:
    n = symbol("N")
    build: Build = lambda b, x: b.reshape(  # noqa: E731
        b.slice(b.reshape(x, shape=(n * 3, 4)), starts=(0, 0), sizes=(n * 3, 4), steps=(1, 1)), shape=(n, 3, 4)
    )
    assert canonical(run_passes, build, "float32[N, 3, 4]") == []


def test_names_of_results_survive(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "float32[4]")
    graph = run_passes("canonicalize", b.outputs(y=b.node("minimum", x, scalar(2), name="limited").output))
    assert graph.outputs[0].name == "limited"


@pytest.mark.parametrize("narrow", ["bool", "int8", "uint8", "int16", "float16", "bfloat16", "float32", "int32"])
@pytest.mark.parametrize("wide", ["int16", "int32", "float16", "bfloat16", "float32", "float64", "uint16"])
def test_exact_casts_keep_every_value(narrow: str, wide: str) -> None:
    from edgeir.ir.dtype import numpy_dtype

    bits = np.arange(1 << 16, dtype=np.uint32)
    dtype = numpy_dtype(narrow)
    if narrow == "bool":
        values = np.array([False, True])
    elif dtype.itemsize == 4:
        values = np.concatenate([(bits << 16), (bits << 16) | bits, bits]).view(dtype)
    else:
        values = bits.astype(f"u{dtype.itemsize}").view(dtype)
    with np.errstate(all="ignore"):
        back = values.astype(numpy_dtype(wide)).astype(dtype)
        same = bool(((back == values) | (values != values)).all())
    if holds_exactly(narrow, wide):
        assert same
