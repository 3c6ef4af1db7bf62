from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, infer, onnx_run, run

WINDOW = {"strides": (2, 1), "padding": (1, 0, 1, 2), "dilations": (1, 2)}
RNG = np.random.default_rng(7)


def _integers(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


@pytest.mark.parametrize("x_dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_is_onnx_conv_integer(x_dtype: type, groups: int) -> None:
    x, w = _integers((2, 4, 7, 9), x_dtype), _integers((6, 4 // groups, 3, 2), np.uint8)
    zeros = [_integers((), x_dtype), _integers((), np.uint8)]
    attributes = {"strides": [2, 1], "pads": [1, 0, 1, 2], "dilations": [1, 2], "group": groups}
    expected = onnx_run(
        "ConvInteger", [x, w, *zeros], attributes, evaluator="onnx" if x_dtype is np.int8 else "onnxruntime"
    )
    assert_same(run("conv_integer", [x, w, None, *zeros], WINDOW | {"groups": groups}), expected)


def test_conv_with_bias_and_a_zero_per_channel() -> None:
    x, w, b = _integers((1, 3, 5, 5), np.uint8), _integers((4, 3, 3, 3), np.int8), _integers((4,), np.int32)
    w_zero = _integers((4,), np.int8)
    window = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}
    got = run("conv_integer", [x, w, b, np.array(7, np.uint8), w_zero], window)
    wide = [x.astype(np.int32) - 7, w.astype(np.int32) - w_zero.astype(np.int32).reshape(4, 1, 1, 1), b]
    assert_same(got, run("conv", wide, window))


def test_extreme_values_wrap_as_int32() -> None:
    x, w = np.full((1, 1, 1, 1), 255, np.uint8), np.full((1, 1, 1, 1), 127, np.int8)
    b = np.array([2**31 - 1], np.int32)
    window = {"strides": (1, 1), "padding": (0,) * 4, "dilations": (1, 1)}
    assert run("conv_integer", [x, w, b], window).item() == 2**31 - 1 + 255 * 127 - 2**32


def test_four_bit_weights() -> None:
    x, w = _integers((1, 2, 3, 3), np.uint8), RNG.integers(-8, 8, (2, 2, 1, 1)).astype(ml_dtypes.int4)
    window = {"strides": (1, 1), "padding": (0,) * 4, "dilations": (1, 1)}
    assert_same(run("conv_integer", [x, w], window), run("conv_integer", [x, w.astype(np.int8)], window))


@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul_is_onnx_matmul_integer(transpose_b: bool) -> None:
    a, b = _integers((3, 4, 6), np.uint8), _integers((6, 5), np.int8)
    zeros = [_integers((), np.uint8), _integers((5,), np.int8)]
    expected = onnx_run("MatMulInteger", [a, b, *zeros], evaluator="onnx")
    ours = b.T.copy() if transpose_b else b
    assert_same(run("matmul_integer", [a, ours, *zeros], {"transpose_b": transpose_b}), expected)


def test_types() -> None:
    n = symbol("N")
    x, w = TensorType("uint8", (n, 4, 8, 8)), TensorType("int8", (6, 4, 1, 1))
    window = {"strides": (1, 1), "padding": (0,) * 4, "dilations": (1, 1)}
    assert infer("conv_integer", [x, w], window) == TensorType("int32", (n, 6, 8, 8))
    with pytest.raises(TypeInferenceError, match="x_zero has the wrong shape"):
        infer("conv_integer", [x, w, None, TensorType("uint8", (4,))], window)
    with pytest.raises(TypeInferenceError, match="element type"):
        infer("conv_integer", [x, TensorType("float32", w.shape)], window)
    with pytest.raises(TypeInferenceError, match="b_zero has the wrong shape"):
        a, b = TensorType("int8", (n, 4)), TensorType("int8", (4, 3))
        infer("matmul_integer", [a, b, None, TensorType("int8", (4,))])
