"""Quantized operators, those of onnxruntime's domain included, against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeir.frontend import from_model
from edgeir.ir.evaluate import evaluate
from tests.frontend.onnx_text_models import check, operators

RNG = np.random.default_rng(0)
F = np.float32
MICROSOFT = "com.microsoft"
INT8 = {"int8": (TensorProto.INT8, np.int8, -5), "uint8": (TensorProto.UINT8, np.uint8, 120)}


def model(
    op: str,
    x: np.ndarray,
    operands: Sequence[Any],
    result: int,
    domain: str = MICROSOFT,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """One operator of an input and initializers; the operand that is `x` is the input."""
    names, initializers = [], []
    for index, operand in enumerate(operands):
        if operand is x:
            names.append("x")
        elif operand is None:
            names.append("")
        else:
            names.append(f"c{index}")
            initializers.append(onnx.numpy_helper.from_array(np.asarray(operand), names[-1]))
    node = helper.make_node(op, names, ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "network",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", result, [f"d{axis}" for axis in range(x.ndim)])],
        initializers,
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8), {"x": x}


def activations(dtype: str, *shape: int) -> tuple[np.ndarray, list[Any]]:
    """Integers, and their scale and zero point."""
    _, kind, zero = INT8[dtype]
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max + 1, shape).astype(kind), [F(0.03), np.array(zero, kind)]


def compare(op: str, dtype: str, x: np.ndarray, operands: Sequence[Any], **attributes: Any) -> list[str]:
    """Within a step, as onnxruntime multiplies by a rounded ratio of scales; returns the operators."""
    proto, inputs = model(op, x, operands, INT8[dtype][0], **attributes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    expected = np.asarray(onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, inputs)[0])
    graph = from_model(proto)
    found = evaluate(graph, inputs)["y"]
    assert found.dtype == expected.dtype
    apart = np.abs(found.astype(int) - expected.astype(int))
    assert apart.max() <= 1 and apart.mean() < 0.1
    return operators(graph)


@pytest.mark.parametrize("dtype", INT8)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary(op: str, dtype: str) -> None:
    x, parameters = activations(dtype, 2, 3, 4)
    other, _ = activations(dtype, 3, 4)
    found = compare(op, dtype, x, [x, *parameters, other, *parameters, F(0.05), parameters[1]])
    assert found == ["dequantize", op[7:].lower(), "quantize"]


@pytest.mark.parametrize("dtype", INT8)
@pytest.mark.parametrize(
    ("op", "attributes", "scale"),
    [
        ("QLinearSigmoid", {}, 1 / 256),
        ("QLinearLeakyRelu", {"alpha": 0.2}, 0.03),
        ("QLinearSoftmax", {"axis": 1, "opset": 13}, 1 / 256),
        ("QLinearGlobalAveragePool", {}, 0.01),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}, 0.02),
    ],
)
def test_unary(op: str, attributes: dict[str, object], scale: float, dtype: str) -> None:
    x, parameters = activations(dtype, 1, 3, 5, 4)
    zero = np.array(np.iinfo(x.dtype).min, x.dtype) if scale == 1 / 256 else parameters[1]
    assert compare(op, dtype, x, [x, *parameters, F(scale), zero], **attributes)


@pytest.mark.parametrize("dtype", INT8)
def test_concat(dtype: str) -> None:
    x, parameters = activations(dtype, 2, 3)
    other, _ = activations(dtype, 2, 5)
    operands = [F(0.04), parameters[1], x, *parameters, other, F(0.02), parameters[1]]
    assert "concat" in compare("QLinearConcat", dtype, x, operands, axis=1)


@pytest.mark.parametrize("dtype", INT8)
@pytest.mark.parametrize("bias", [False, True])
def test_gemm(dtype: str, bias: bool) -> None:
    x, parameters = activations(dtype, 4, 6)
    w = RNG.integers(-100, 100, (3, 6)).astype(np.int8)
    scales = np.array([0.01, 0.02, 0.03], F)
    b = np.array([1000, -500, 0], np.int32) if bias else None
    operands = [x, *parameters, w, scales, np.zeros(3, np.int8), b, F(0.1), parameters[1]]
    found = compare("QGemm", dtype, x, operands, transB=1, alpha=1.0)
    assert "matmul_integer" in found and "matmul" not in found


def test_gemm_of_floats() -> None:
    x, parameters = activations("uint8", 4, 6)
    w = RNG.integers(-100, 100, (6, 3)).astype(np.int8)
    proto, inputs = model("QGemm", x, [x, *parameters, w, F(0.02), np.array(0, np.int8)], TensorProto.FLOAT)
    check(proto, inputs)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution(groups: int, per_channel: bool) -> None:
    x, parameters = activations("uint8", 1, 4, 5, 5)
    w = RNG.integers(-127, 128, (8, 4 // groups, 3, 3)).astype(np.int8)
    scale = np.linspace(0.005, 0.02, 8).astype(F) if per_channel else F(0.01)
    zero = np.zeros(8, np.int8) if per_channel else np.array(0, np.int8)
    bias = RNG.integers(-1000, 1000, 8).astype(np.int32)
    operands = [x, *parameters, w, scale, zero, F(0.1), parameters[1], bias]
    found = compare("QLinearConv", "uint8", x, operands, domain="", pads=[1, 1, 1, 1], group=groups)
    assert found == ["conv_integer", "dequantize", "quantize"]


def test_matmul_with_zero_points_of_columns() -> None:
    x, parameters = activations("uint8", 2, 4, 6)
    w = RNG.integers(0, 256, (6, 3)).astype(np.uint8)
    scales, zeros = np.array([0.01, 0.02, 0.03], F), np.array([128, 100, 0], np.uint8)
    operands = [x, *parameters, w, scales, zeros, F(0.2), parameters[1]]
    assert "matmul_integer" in compare("QLinearMatMul", "uint8", x, operands, domain="")


@pytest.mark.parametrize("bias", [False, True])
def test_matmul_of_what_is_quantized_first(bias: bool) -> None:
    x = RNG.standard_normal((3, 6)).astype(F)
    w = RNG.integers(0, 256, (6, 4)).astype(np.uint8)
    operands = [x, w, F(0.02), np.array(128, np.uint8), RNG.standard_normal(4).astype(F) if bias else None]
    proto, inputs = model("DynamicQuantizeMatMul", x, operands, TensorProto.FLOAT)
    check(proto, inputs, tolerance=1e-4)


def test_integer_matmul_to_float() -> None:
    x, parameters = activations("uint8", 3, 6)
    w = RNG.integers(0, 256, (6, 4)).astype(np.uint8)
    operands = [x, w, F(0.03), np.linspace(0.01, 0.02, 4).astype(F), parameters[1], np.full(4, 128, np.uint8)]
    proto, inputs = model("MatMulIntegerToFloat", x, operands, TensorProto.FLOAT)
    check(proto, inputs, tolerance=1e-4)
