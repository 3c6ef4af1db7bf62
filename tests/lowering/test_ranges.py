"""Ranges of floats: never narrower than what the reference evaluator gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.ir import Builder, Value
from edgeir.lowering.ranges import quantized_floats_fit

F = np.float32


def fits(build: Any, scale: float = 1.0) -> bool:
    b = Builder("case")
    sums, x = b.input("sums", "int32[1, 4, 3, 3]"), b.input("x", "float32[1, 4, 3, 3]")
    graph = b.outputs(y=b.quantize(build(b, sums, x), F(scale), np.uint8(3), dtype="uint8"))

    def constant(value: Value) -> np.ndarray | None:
        return value.data if value.is_constant else None

    return quantized_floats_fit(list(graph.nodes), constant)


def dequantized(b: Any, value: Value, scale: float) -> Value:
    return b.dequantize(value, np.array([[[[0.25]], [[0.125]], [[-0.25]], [[scale]]]], F))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(0.5, True), (-0.5, True), (0.51, False), (1e30, False), (np.inf, False), (np.nan, False)],
)
def test_scales_decide(scale: float, expected: bool) -> None:
    assert fits(lambda b, sums, x: b.relu(dequantized(b, sums, scale))) == expected


def test_operators() -> None:
    half = 2.0**30
    assert not fits(lambda b, sums, x: b.relu(x))
    assert not fits(lambda b, sums, x: b.clip(x, minimum=0.0, maximum=6.0))  # NaN stays NaN
    assert fits(lambda b, sums, x: b.clip(dequantized(b, sums, 100.0), minimum=0.0, maximum=6.0))
    assert not fits(lambda b, sums, x: b.add(dequantized(b, sums, 0.5), F(1.0)))
    assert fits(lambda b, sums, x: b.add(dequantized(b, sums, 0.25), F(half / 2)))
    assert fits(lambda b, sums, x: b.sub(F(half / 2), dequantized(b, sums, 0.25)))
    assert not fits(lambda b, sums, x: b.mul(dequantized(b, sums, 0.25), F(2.5)))
    assert not fits(lambda b, sums, x: b.exp(dequantized(b, sums, 0.25)))
    assert not fits(lambda b, sums, x: dequantized(b, sums, 0.25), scale=0.5)


def test_without_quantization_nothing_is_claimed() -> None:
    b = Builder("case")
    graph = b.outputs(y=b.relu(b.input("x", "float32[1, 4]")))
    assert not quantized_floats_fit(list(graph.nodes), lambda value: None)
