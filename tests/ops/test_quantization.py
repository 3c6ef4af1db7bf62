from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, infer, onnx_run, run

N = symbol("N")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_per_tensor(dtype: type) -> None:
    x = np.random.default_rng(0).uniform(-40000, 40000, (4, 9)).astype(np.float32)
    x[0, :6] = 0.5, 1.5, -0.5, 1e30, -1e30, 2.5
    scale, zero = np.array(1.0, np.float32), np.array(3, dtype)
    q = run("quantize", [x, scale, zero])
    assert_same(q, onnx_run("QuantizeLinear", [x, scale, zero]))
    assert_same(run("dequantize", [q, scale, zero]), onnx_run("DequantizeLinear", [q, scale, zero]))


def test_per_channel() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, (2, 5, 4)).astype(np.float32)
    scale, zero = rng.uniform(0.01, 0.05, 5).astype(np.float32), rng.integers(-9, 9, 5).astype(np.int8)
    wide = [x, scale.reshape(1, 5, 1), zero.reshape(1, 5, 1)]
    q = run("quantize", wide)
    assert_same(q, onnx_run("QuantizeLinear", [x, scale, zero], {"axis": 1}))
    expected = onnx_run("DequantizeLinear", [q, scale, zero], {"axis": 1})
    assert_same(run("dequantize", [q, *wide[1:]]), expected)


def test_float8_and_half() -> None:
    x = np.array([0.1, -3, 900, -900, 17.3], np.float32)
    scale, zero = np.array(2, np.float32), np.array(0, ml_dtypes.float8_e4m3fn)
    assert_same(run("quantize", [x, scale, zero]), onnx_run("QuantizeLinear", [x, scale, zero], evaluator="onnx"))
    half = x.astype(np.float16)
    got = run("quantize", [half, scale.astype(np.float16), np.array(1, np.int8)])
    np.testing.assert_array_equal(got, [1, -1, 127, -128, 10])


def test_four_bits_and_int32() -> None:
    x, scale = np.array([-100, -3, 0, 5, 100], np.float32), np.array(1, np.float32)
    q = run("quantize", [x, scale, np.array(0, ml_dtypes.int4)])
    assert q.astype(np.int32).tolist() == [-8, -3, 0, 5, 7]
    large = np.array([2**31 - 1, -(2**31)], np.int32)
    got = run("dequantize", [large, np.array(0.5, np.float64)])
    assert got.tolist() == [(2**31 - 1) / 2, -(2.0**30)]


def test_types() -> None:
    x, scale = TensorType("float32", (N, 5, 4)), TensorType("float32", (5, 1))
    assert infer("quantize", [x, scale, TensorType("int8", (5, 1))]) == TensorType("int8", x.shape)
    q = TensorType("int8", x.shape)
    assert infer("dequantize", [q, scale]) == x
    with pytest.raises(TypeInferenceError, match="scale does not broadcast to x"):
        infer("quantize", [x, TensorType("float32", (5,)), TensorType("int8", ())])
    with pytest.raises(TypeInferenceError, match="scale does not broadcast to x"):
        infer("quantize", [TensorType("float32", (4,)), TensorType("float32", (5, 4)), TensorType("int8", ())])
    with pytest.raises(TypeInferenceError, match="dtype differs"):
        infer("quantize", [x, scale, TensorType("int8", ())], {"dtype": "uint8"})
    with pytest.raises(TypeInferenceError, match="different element types"):
        infer("dequantize", [q, scale, TensorType("uint8", ())])
    with pytest.raises(TypeInferenceError, match="zero has an element type"):
        infer("quantize", [x, scale, TensorType("float32", ())])
