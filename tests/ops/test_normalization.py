from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, infer, onnx_run, run

N, T = symbol("N"), symbol("T")


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    arrays = [random(*shape), random(3), random(3) + 1, random(3), np.abs(random(3)) + 0.1]
    expected = onnx_run("BatchNormalization", arrays, {"epsilon": 0.001})
    assert_same(run("batch_norm", arrays, {"epsilon": 0.001}), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_norm(axis: int, bias: bool) -> None:
    x = random(2, 3, 4) * 3 + 5
    arrays = [x, random(*x.shape[axis:]), *([random(*x.shape[axis:])] if bias else [])]
    attributes = {"axis": axis, "epsilon": 1e-5}
    assert_same(run("layer_norm", arrays, attributes), onnx_run("LayerNormalization", arrays, attributes), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_layer_norm_accumulates_in_float32(dtype: type) -> None:
    x = (random(2, 600) + 300).astype(dtype)
    scale = np.ones(600, dtype)
    wide = x.astype(np.float64)
    expected = ((wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)).astype(dtype)
    assert_same(run("layer_norm", [x, scale], {"axis": 1, "epsilon": 0}), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax(op: str, axis: int) -> None:
    x = random(2, 3, 4) * 100
    name = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}[op]
    assert_same(run(name, [x], {"axis": axis}), onnx_run(op, [x], {"axis": axis}))
    half = x.astype(np.float16)
    expected = run(name, [half.astype(np.float32)], {"axis": axis}).astype(np.float16)
    assert_same(run(name, [half], {"axis": axis}), expected, rtol=0, atol=0)


def test_no_elements() -> None:
    assert run("softmax", [np.zeros((2, 0), np.float32)], {"axis": 1}).shape == (2, 0)


def test_types() -> None:
    x, c = TensorType("float32", (N, T, 16)), TensorType("float32", (16,))
    assert infer("softmax", [x], {"axis": 2}) == x
    assert infer("layer_norm", [x, c, c], {"axis": 2, "epsilon": 1e-5}) == x
    assert infer("layer_norm", [x, c], {"axis": 1, "epsilon": 1e-5}) == x
    with pytest.raises(TypeInferenceError, match="axis is out of range"):
        infer("softmax", [x], {"axis": -1})
    with pytest.raises(TypeInferenceError, match=r"broadcasts to \[16\]"):
        infer("layer_norm", [x, TensorType("float32", (T, 16))], {"axis": 2, "epsilon": 1e-5})
    with pytest.raises(TypeInferenceError, match="mean has the wrong shape"):
        infer("batch_norm", [TensorType("float32", (N, 16)), c, c, TensorType("float32", (8,)), c], {"epsilon": 0.1})
    with pytest.raises(TypeInferenceError, match="int32"):
        infer("softmax", [TensorType("int32", (4,))], {"axis": 0})
