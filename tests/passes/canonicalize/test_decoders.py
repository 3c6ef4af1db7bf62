from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeir.ir import Builder, Graph, Value

Run = Callable[..., Graph]
F = np.float32
W = np.random.default_rng(0).integers(-127, 128, (6, 4)).astype(np.int8)
ROWS = np.linspace(0.5, 1, 6, dtype=F).reshape(6, 1)
COLUMNS = np.linspace(0.5, 1, 4, dtype=F)


def decoded(b: Builder, scale: np.ndarray) -> Value:
    return b.dequantize(W, scale)


CASES: dict[str, tuple[Callable[[Builder], Value], list[str]]] = {
    "scaled cast": (lambda b: b.mul(b.cast(W, dtype="float32"), ROWS), ["dequantize"]),
    "factor on the left": (lambda b: b.mul(COLUMNS, b.cast(W, dtype="float32")), ["dequantize"]),
    "zero point": (lambda b: b.mul(b.sub(b.cast(W, dtype="float32"), F(3)), ROWS), ["dequantize"]),
    "zero point of no integer": (
        lambda b: b.mul(b.sub(b.cast(W, dtype="float32"), F(0.5)), ROWS),
        ["cast", "sub", "mul"],
    ),
    "factor that broadcasts": (lambda b: b.mul(b.cast(W, dtype="float32"), np.ones((2, 6, 4), F)), ["cast", "mul"]),
    "transpose": (lambda b: b.transpose(decoded(b, ROWS), perm=(1, 0)), ["transpose", "dequantize"]),
    "slice of rows": (
        lambda b: b.slice(decoded(b, ROWS), starts=(5, 0), sizes=(3, 4), steps=(-2, 1)),
        ["slice", "dequantize"],
    ),
    "reshape that keeps axes": (lambda b: b.reshape(decoded(b, ROWS), shape=(1, 6, 1, 4)), ["reshape", "dequantize"]),
    "reshape that joins axes": (lambda b: b.reshape(decoded(b, ROWS), shape=(24,)), ["dequantize", "reshape"]),
    "reshape, one scale": (lambda b: b.reshape(decoded(b, np.array(0.5, F)), shape=(24,)), ["reshape", "dequantize"]),
    "rows looked up": (
        lambda b: b.gather(decoded(b, ROWS), np.array([[1, 5]]), axis=0),
        ["gather", "gather", "dequantize"],
    ),
    "rows of scaled columns": (
        lambda b: b.gather(decoded(b, COLUMNS), np.array([1]), axis=0),
        ["gather", "dequantize"],
    ),
    "columns of scaled columns": (
        lambda b: b.gather(decoded(b, COLUMNS), np.array([1]), axis=1),
        ["gather", "gather", "dequantize"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_decoding_comes_last(run_passes: Run, name: str) -> None:
    build, expected = CASES[name]
    b = Builder("case")
    b.input("x", "float32[1]")
    graph = run_passes("canonicalize", b.outputs(y=build(b)), tolerance=0)
    assert sorted(node.op for node in graph.nodes) == sorted(expected)


@pytest.mark.parametrize(("zero", "dtype", "kept"), [(128, "int8", False), (0, "uint8", False), (255, "uint8", True)])
def test_weights_are_centered_where_they_fit(run_passes: Run, zero: int, dtype: str, kept: bool) -> None:
    b = Builder("case")
    b.input("x", "float32[1]")
    w = np.array([0, 7, 255], np.uint8)
    graph = run_passes("canonicalize", b.outputs(y=b.dequantize(w, F(0.5), np.array(zero, np.uint8))), tolerance=0)
    (node,) = graph.nodes
    assert node.input(0).type.dtype == dtype
    assert (len(node.present_inputs) == 3) == kept


@pytest.mark.parametrize("transposed", [False, True])
def test_zero_points_of_integer_products(run_passes: Run, transposed: bool) -> None:
    b = Builder("case")
    x = b.input("x", "uint8[2, 3]")
    w = np.random.default_rng(1).integers(100, 150, (3, 5)).astype(np.uint8)
    zeros = np.arange(120, 125).astype(np.uint8)
    y = b.matmul_integer(x, w.T if transposed else w, np.array(0, np.uint8), zeros, transpose_b=transposed)
    conv = {"strides": (1,), "padding": (1, 1), "dilations": (1,)}
    z = b.conv_integer(
        b.reshape(x, shape=(1, 2, 3)), w[:2].reshape(5, 2, 1), None, np.array(3, np.uint8), zeros, **conv
    )
    graph = run_passes("canonicalize", b.outputs(y=y, z=z), tolerance=0)
    found = {node.op: node for node in graph.nodes}
    assert len(found["matmul_integer"].inputs) == 2
    assert len(found["conv_integer"].inputs) == 4
    assert found["conv_integer"].input(1).type.dtype == "int8"
