from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, infer, onnx_run, run

COMPARISONS = {
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_comparison(op: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-2, 3, (3, 4)).astype(dtype), rng.integers(-2, 3, 4).astype(dtype)
    assert_same(run(op, [a, b]), onnx_run(COMPARISONS[op], [a, b]))


@pytest.mark.parametrize("op", ["and", "or", "xor"])
def test_logic(op: str) -> None:
    a, b = np.array([[False], [True]]), np.array([False, True])
    assert_same(run(f"logical_{op}", [a, b]), onnx_run(op.title(), [a, b]))
    assert_same(run("logical_not", [a]), onnx_run("Not", [a]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_bits(dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 100, (3, 4)).astype(dtype), rng.integers(0, 100, 4).astype(dtype)
    for op in ("and", "or", "xor"):
        assert_same(run(f"bitwise_{op}", [a, b]), onnx_run(f"Bitwise{op.title()}", [a, b]))
    assert_same(run("bitwise_not", [a]), onnx_run("BitwiseNot", [a]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("direction", ["left", "right"])
def test_shift(dtype: type, direction: str) -> None:
    a, b = np.array([1, 5, 200], dtype), np.array([[0], [1], [7]], dtype)
    assert_same(run(f"shift_{direction}", [a, b]), onnx_run("BitShift", [a, b], {"direction": direction.upper()}))


def test_not_a_number_and_infinity() -> None:
    x = np.array([1, np.nan, np.inf, -np.inf, 0], np.float32)
    assert_same(run("is_nan", [x]), onnx_run("IsNaN", [x]))
    for negative in (False, True):
        for positive in (False, True):
            attributes = {"detect_negative": negative, "detect_positive": positive}
            expected = onnx_run("IsInf", [x], {key: int(value) for key, value in attributes.items()})
            assert_same(run("is_inf", [x], attributes), expected)
    half = x.astype(np.float16)
    np.testing.assert_array_equal(run("is_nan", [half]), np.isnan(x))


def test_types() -> None:
    n = symbol("N")
    a = TensorType("int8", (n, 1))
    assert infer("less", [a, TensorType("int8", (3,))]) == TensorType("bool", (n, 3))
    assert infer("shift_left", [a, TensorType("uint8", ())]) == a
    with pytest.raises(TypeInferenceError, match="expected: bool"):
        infer("logical_and", [a, a])
    with pytest.raises(TypeInferenceError, match="float32"):
        infer("bitwise_not", [TensorType("float32", (2,))])
