from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import TensorType, symbol
from edgeir.ir.dtype import DTYPES, bits, numpy_dtype
from tests.ops.onnx_oracle import assert_same, infer, onnx_run, run

PLAIN = ["bool", "int8", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
FLOAT8 = sorted(name for name in DTYPES if name.startswith("float8"))


@pytest.mark.parametrize("source", PLAIN)
@pytest.mark.parametrize("target", PLAIN)
def test_between_plain_types(source: str, target: str) -> None:
    x = np.array([0, 1, 2.75, 100.5, 7, 42.25]).astype(numpy_dtype(source))
    expected = onnx_run("Cast", [x], {"to": helper.np_dtype_to_tensor_dtype(numpy_dtype(target))}, evaluator="onnx")
    assert_same(run("cast", [x], {"dtype": target}), expected)


@pytest.mark.parametrize("target", FLOAT8)
@pytest.mark.parametrize("saturate", [True, False])
def test_to_float8(target: str, saturate: bool) -> None:
    x = np.array([0, 0.4, -1.3, 17, 239, 300, 500, -1e6, 1e6, np.nan, np.inf, -np.inf], np.float32)
    attributes = {"to": helper.np_dtype_to_tensor_dtype(numpy_dtype(target)), "saturate": int(saturate)}
    expected = onnx_run("Cast", [x], attributes, evaluator="onnx")
    assert_same(run("cast", [x], {"dtype": target, "saturate": saturate}), expected)


def test_float8_to_others() -> None:
    x = np.array([0, -1.5, 448, 0.0625], ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(run("cast", [x], {"dtype": "float16"}), np.array([0, -1.5, 448, 0.0625], np.float16))
    np.testing.assert_array_equal(run("cast", [x], {"dtype": "int32"}), [0, -1, 448, 0])


def test_four_bits() -> None:
    x = np.array([-9, -8, -1, 0, 7, 8, 15, 16], np.int32)
    signed = run("cast", [x], {"dtype": "int4"})
    assert signed.astype(np.int32).tolist() == [7, -8, -1, 0, 7, -8, -1, 0]
    assert run("cast", [x], {"dtype": "uint4"}).astype(np.int32).tolist() == [7, 8, 15, 0, 7, 8, 15, 0]
    assert run("cast", [signed], {"dtype": "float32"}).tolist() == [7, -8, -1, 0, 7, -8, -1, 0]


@pytest.mark.parametrize("source", ["float32", "int8", "uint8", "float16", "int64", "float8_e5m2"])
def test_bit_cast_keeps_bytes(source: str) -> None:
    x = np.arange(-3, 5).astype(numpy_dtype(source))
    for target in DTYPES - {"bool", "int4", "uint4"}:
        if bits(target) == bits(source):
            assert run("bit_cast", [x], {"dtype": target}).tobytes() == x.tobytes()


def test_types() -> None:
    x = TensorType("float32", (symbol("N"), 3))
    assert infer("cast", [x], {"dtype": "int8"}) == TensorType("int8", x.shape)
    with pytest.raises(TypeInferenceError, match="element type of 32 bits"):
        infer("bit_cast", [x], {"dtype": "int8"})
    with pytest.raises(EdgeIRError, match="wrong kind"):
        infer("cast", [x], {"dtype": "complex64"})
