from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, build, infer, onnx_run, run

N, M = symbol("N"), symbol("M")

# operator: ONNX name, least and greatest argument
UNARY = {
    "abs": ("Abs", -9, 9),
    "neg": ("Neg", -9, 9),
    "exp": ("Exp", -9, 9),
    "log": ("Log", 0.01, 9),
    "sqrt": ("Sqrt", 0, 9),
    "sin": ("Sin", -9, 9),
    "cos": ("Cos", -9, 9),
    "tan": ("Tan", -1.5, 1.5),
    "asin": ("Asin", -1, 1),
    "acos": ("Acos", -1, 1),
    "atan": ("Atan", -9, 9),
    "sinh": ("Sinh", -3, 3),
    "cosh": ("Cosh", -3, 3),
    "tanh": ("Tanh", -9, 9),
    "asinh": ("Asinh", -9, 9),
    "acosh": ("Acosh", 1, 9),
    "atanh": ("Atanh", -0.99, 0.99),
    "erf": ("Erf", -4, 4),
    "floor": ("Floor", -9, 9),
    "ceil": ("Ceil", -9, 9),
    "round": ("Round", -9, 9),
    "sign": ("Sign", -9, 9),
    "reciprocal": ("Reciprocal", 0.1, 9),
    "relu": ("Relu", -9, 9),
    "sigmoid": ("Sigmoid", -30, 30),
}


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str) -> None:
    name, low, high = UNARY[op]
    x = np.random.default_rng(0).uniform(low, high, (3, 17)).astype(np.float32)
    x[0, :2] = low, high
    assert_same(run(op, [x]), onnx_run(name, [x]), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_unary_rounds_once(op: str, dtype: type) -> None:
    _, low, high = UNARY[op]
    x = np.random.default_rng(0).uniform(low + 0.01, high - 0.01, 50).astype(dtype)
    got = run(op, [x])
    if dtype is np.float64:
        np.testing.assert_allclose(got, run(op, [x.astype(np.float32)]), rtol=1e-4, atol=1e-4)
    else:
        assert_same(got, run(op, [x.astype(np.float32)]).astype(dtype), rtol=0, atol=0)


def test_special_values() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -2.5, np.nan, np.inf, -np.inf, -0.0], np.float32)
    for op in ("round", "relu", "sign", "abs", "sigmoid", "erf", "exp"):
        assert_same(run(op, [x]), onnx_run(UNARY[op][0], [x], evaluator="onnx"))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "minimum", "maximum"])
def test_arithmetic(op: str, dtype: type) -> None:
    name = {"minimum": "Min", "maximum": "Max"}.get(op, op.title())
    rng = np.random.default_rng(1)
    a = rng.integers(-50, 50, (2, 3, 4)).astype(dtype)
    b = rng.integers(1, 9, (3, 1)).astype(dtype) * rng.choice([-1, 1], (3, 1)).astype(dtype)
    assert_same(run(op, [a, b]), onnx_run(name, [a, b], evaluator="onnxruntime" if dtype != np.int8 else "onnx"))


def test_integer_division_truncates() -> None:
    a, b = np.array([7, -7, 7, -7, 6, -128], np.int8), np.array([2, 2, -2, -2, -3, 1], np.int8)
    np.testing.assert_array_equal(run("div", [a, b]), [3, -3, -3, 3, -2, -128])


@pytest.mark.parametrize("fmod", [False, True])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_mod(fmod: bool, dtype: type) -> None:
    a, b = np.array([7, -7, 7, -7], dtype), np.array([3, 3, -3, -3], dtype)
    got = run("mod", [a, b], {"fmod": fmod})
    np.testing.assert_array_equal(got, [1, -1, 1, -1] if fmod else [1, 2, -2, -1])
    if fmod or dtype is np.int32:
        assert_same(got, onnx_run("Mod", [a, b], {"fmod": int(fmod)}))


@pytest.mark.parametrize("a", [np.float32, np.int32])
@pytest.mark.parametrize("b", [np.float32, np.int32, np.int64])
def test_pow(a: type, b: type) -> None:
    base, exponent = np.array([1, 2, 3, 4], a), np.array([[0], [2], [3]], b)
    assert_same(run("pow", [base, exponent]), onnx_run("Pow", [base, exponent]))


def test_where_and_broadcasting() -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.random((3, 1)) > 0.5, rng.standard_normal((2, 3, 4)).astype(np.float32), np.zeros(4, np.float32)]
    assert_same(run("where", arrays), onnx_run("Where", arrays))


@pytest.mark.parametrize("bounds", [(None, None), (-1.5, None), (None, 1.5), (-1.5, 1.5), (2.0, 1.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_clip(bounds: tuple[float | None, float | None], dtype: type) -> None:
    x = np.linspace(-3, 3, 25).astype(dtype)
    limits = [None if bound is None else np.array(bound, dtype) for bound in bounds]
    got = run("clip", [x], {"minimum": bounds[0], "maximum": bounds[1]})
    assert_same(got, onnx_run("Clip", [x, *limits]))


def test_clip_integers() -> None:
    x = np.array([-128, -2, 0, 2, 127], np.int8)
    np.testing.assert_array_equal(run("clip", [x], {"minimum": -1.5, "maximum": 1e9}), [-1, -1, 0, 2, 127])
    np.testing.assert_array_equal(run("clip", [x], {"minimum": -float("inf"), "maximum": 1.5}), [-128, -2, 0, 1, 1])


def test_leaky_relu() -> None:
    x = np.linspace(-3, 3, 25).astype(np.float32)
    assert_same(run("leaky_relu", [x], {"alpha": 0.1}), onnx_run("LeakyRelu", [x], {"alpha": 0.1}))


def test_symbolic_shapes() -> None:
    a = TensorType("float32", (N, 1, M))
    assert infer("add", [a, TensorType("float32", (8, M))]).shape == (N, 8, M)
    assert infer("add", [a, TensorType("float32", ())]).shape == a.shape
    assert infer("mul", [TensorType("float32", (N * 2,)), TensorType("float32", (N + N,))]).shape == (2 * N,)
    assert infer("relu", [a]) == a


@pytest.mark.parametrize(
    ("op", "types", "message"),
    [
        ("add", [("float32", (N,)), ("float32", (M,))], "N and M at axis 0"),
        ("add", [("float32", (N,)), ("float32", (3,))], "fix symbolic dimensions"),
        ("add", [("float32", (2, 3)), ("float32", (2, 4))], "3 and 4 at axis 1"),
        ("add", [("float32", (2,)), ("float16", (2,))], "insert a cast"),
        ("add", [("bool", (2,)), ("bool", (2,))], "a has an element type"),
        ("exp", [("int32", (2,))], r"int32\[2\]"),
        ("neg", [("uint8", (2,))], r"uint8\[2\]"),
        ("relu", [("float8_e5m2", (2,))], "float8_e5m2"),
        ("where", [("int8", (2,)), ("int8", (2,)), ("int8", (2,))], "condition has an element type"),
    ],
)
def test_wrong_types(op: str, types: list, message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message) as caught:
        infer(op, [TensorType(*type) for type in types])
    assert caught.value.where is not None and op in caught.value.where


def test_wrong_attributes_and_arity() -> None:
    x = TensorType("float32", (2,))
    with pytest.raises(EdgeIRError, match="needs attribute 'alpha'"):
        infer("leaky_relu", [x])
    with pytest.raises(EdgeIRError, match="has no attribute 'beta'"):
        infer("relu", [x], {"beta": 1})
    with pytest.raises(EdgeIRError, match="needs input 'b'"):
        infer("add", [x])
    with pytest.raises(EdgeIRError, match="too many inputs"):
        infer("relu", [x, x])


def test_layout_follows_the_operands() -> None:
    blocked = TensorType("float32", (1, 16, 4, 4), "NCHW8c")
    assert infer("relu", [blocked]) == blocked
    assert infer("add", [blocked, blocked]) == blocked
    with pytest.raises(EdgeIRError, match="NCHW8c"):
        build("add", [blocked, blocked.with_layout("")])
