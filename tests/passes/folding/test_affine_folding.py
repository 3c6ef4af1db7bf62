"""fold-bias, fold-scale and fold-batch-norm: what they share is tested with the same networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeir.ir import Builder, Graph, Value

Run = Callable[..., Graph]
KINDS = ("conv", "grouped", "depthwise", "transposed", "grouped transposed")


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolution(b: Builder, x: Value, kind: str, bias: bool) -> Value:
    """6 channels in and out, whatever the kind."""
    groups = 6 if kind == "depthwise" else 2 if "grouped" in kind else 1
    attributes = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": groups}
    b_operand = random(2, 6) if bias else None
    if "transposed" in kind:
        w = random(1, 6, 6 // groups, 3, 3)
        return b.node("conv_transpose", x, w, b_operand, output_padding=(0, 0), **attributes).output
    return b.node("conv", x, random(1, 6, 6 // groups, 3, 3), b_operand, **attributes).output


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def parameters(channels: int) -> list[np.ndarray]:
    return [random(3, channels), random(4, channels), random(5, channels), np.abs(random(6, channels)) + 0.5]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_joins_the_convolution(run_passes: Run, kind: str, bias: bool) -> None:
    b = Builder("case")
    x = b.input("x", "float32[2, 6, 5, 5]")
    y = b.batch_norm(convolution(b, x, kind, bias), *parameters(6), epsilon=1e-3)
    graph = run_passes("fold-batch-norm", b.outputs(y=y))
    assert ops(graph) == ["conv_transpose" if "transposed" in kind else "conv"]


@pytest.mark.parametrize("transpose", [False, True])
def test_batch_norm_joins_the_product(run_passes: Run, transpose: bool) -> None:
    b = Builder("case")
    w = random(1, 5, 4) if transpose else random(1, 4, 5)
    y = b.matmul(b.input("x", "float32[3, 4]"), w, transpose_b=transpose)
    graph = run_passes("fold-batch-norm", b.outputs(y=b.batch_norm(y, *parameters(5), epsilon=1e-5)))
    assert ops(graph) == ["matmul", "add"]


def test_batch_norm_of_a_shared_convolution_becomes_affine(run_passes: Run) -> None:
    b = Builder("case")
    y = convolution(b, b.input("x", "float32[2, 6, 5, 5]"), "conv", True)
    graph = run_passes("fold-batch-norm", b.outputs(y=b.batch_norm(y, *parameters(6), epsilon=1e-5), z=y))
    assert ops(graph) == ["conv", "mul", "add"]


def test_batch_norm_with_computed_parameters(run_passes: Run) -> None:
    b = Builder("case")
    x, scale = b.input("x", "float32[2, 3, 4]"), b.input("scale", "float32[3]")
    y = b.batch_norm(x, scale, *parameters(3)[1:], epsilon=1e-5)
    assert "batch_norm" not in ops(run_passes("fold-batch-norm", b.outputs(y=y)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_scale_and_bias_join_the_convolution(run_passes: Run, kind: str, bias: bool) -> None:
    b = Builder("case")
    y = convolution(b, b.input("x", "float32[2, 6, 5, 5]"), kind, bias)
    y = b.sub(b.div(b.mul(y, random(7, 1, 6, 1, 1)), random(8, 6, 1, 1) + 3), np.array([[[0.5]]], np.float32))
    graph = run_passes("fold-scale,fold-bias", b.outputs(y=y))
    assert ops(graph) == ["conv_transpose" if "transposed" in kind else "conv"]
    assert all(len(node.present_inputs) == 3 for node in graph.nodes)


@pytest.mark.parametrize("transpose", [False, True])
def test_scale_joins_the_product_also_through_a_sum(run_passes: Run, transpose: bool) -> None:
    b = Builder("case")
    w = random(1, 5, 4) if transpose else random(1, 4, 5)
    y = b.matmul(b.input("x", "float32[2, 3, 4]"), w, transpose_b=transpose)
    y = b.mul(b.add(y, random(2, 5)), random(3, 5))
    graph = run_passes("fold-scale", b.outputs(y=y))
    assert ops(graph) == ["matmul", "add"]


def build_kept(name: str) -> Graph:
    b = Builder(name)
    x = b.input("x", "float32[1, 6, 5, 5]")
    y = convolution(b, x, "conv", False)
    if name == "constant along the width":
        return b.outputs(y=b.add(b.mul(y, random(3, 5)), random(4, 5)))
    if name == "used twice":
        return b.outputs(y=b.add(y, np.array([[[1.0]]], np.float32)), z=y)
    if name == "not constant":
        return b.outputs(y=b.add(b.mul(y, x), x))
    return b.outputs(y=b.div(np.array([[[[2.0]]]], np.float32), y))


@pytest.mark.parametrize("name", ["constant along the width", "used twice", "not constant", "constant divided by it"])
def test_what_does_not_fold(run_passes: Run, name: str) -> None:
    graph = build_kept(name)
    before = ops(graph)
    assert ops(run_passes("fold-scale,fold-bias", graph)) == before
