from __future__ import annotations

import math

import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ir import TensorType
from tests.ops.onnx_oracle import infer, run


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_the_formula(bits: int) -> None:
    rng = np.random.default_rng(bits)
    x = (rng.choice([-1, 1], 400) * np.exp2(rng.uniform(-9, 6, 400))).astype(np.float32)
    x[0] = 0
    base, q = np.array(0.7, np.float32), 2 ** (bits - 2)
    codes = run("log_quantize", [x, base], {"bits": bits})
    got = run("log_dequantize", [codes, base], {"bits": bits})
    for value, back in zip(x, got, strict=True):
        exponent = -q if value == 0 else min(q - 1, max(-q, round(math.log2(abs(float(value)) / float(base)))))
        expected = 0.0 if exponent == -q else math.copysign(float(base) * 2.0**exponent, value)
        assert back == np.float32(expected)
    assert int(codes.astype(np.uint8).max()) < 2**bits


def test_quantizing_twice_changes_nothing() -> None:
    x = np.random.default_rng(0).normal(0, 1, (8, 5)).astype(np.float32)
    base = np.abs(x).max(axis=1, keepdims=True) / 8
    once = run("log_dequantize", [run("log_quantize", [x, base]), base])
    np.testing.assert_array_equal(run("log_dequantize", [run("log_quantize", [once, base]), base]), once)


def test_types() -> None:
    x, base = TensorType("float32", (4, 3)), TensorType("float32", (4, 1))
    assert infer("log_quantize", [x, base]) == TensorType("uint4", x.shape)
    assert infer("log_quantize", [x, base], {"bits": 5}) == TensorType("uint8", x.shape)
    with pytest.raises(TypeInferenceError, match="bits is out of range"):
        infer("log_quantize", [x, base], {"bits": 9})
    with pytest.raises(TypeInferenceError, match="element type"):
        infer("log_dequantize", [TensorType("uint8", (4,)), TensorType("float32", ())])
