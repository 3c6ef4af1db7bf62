"""Weights lose their zero points without any change of the integers, and then get fast kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeir.frontend import load
from edgeir.ir import Graph, TensorType
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passes.quantization.weight_zero_rules import WeightZero
from edgeir.passmanager import PassContext
from edgeir.targets import lookup

WEIGHTS = st.sampled_from(["int8", "uint8", "int4", "uint4"])


def integers(draw: Any, dtype: str, shape: tuple[int, ...], near: int | None = None) -> np.ndarray:
    """Random integers of the whole range, or at most 7 away from one."""
    low, high = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}[dtype]
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    if near is not None:
        low, high = max(low, near - 7), min(high, near + 7)
    return random.integers(low, high + 1, shape).astype(np.int16).astype(numpy_dtype(dtype))


@st.composite
def products(draw: st.DrawFn) -> tuple[Graph, dict[str, np.ndarray]]:
    """A convolution or product of integers whose weights have any zero points, or none."""
    dtype, left = draw(WEIGHTS), draw(st.sampled_from(["uint8", "int8"]))
    conv = draw(st.booleans())
    out, depth = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    near = draw(st.sampled_from([None, 2, 7]))
    graph = Graph("net")
    zero: Any = draw(st.sampled_from([None, (), (out,)]))
    x_zero = graph.add_constant(np.array(3, left), "x_zero") if draw(st.booleans()) else None
    if conv:
        groups = draw(st.sampled_from([1, 1, 2]))
        weight_shape: tuple[int, ...] = (out * groups, depth, 2, 2)
        zero = zero if zero in (None, ()) else (out * groups,)
        shape: tuple[int, ...] = (1, depth * groups, 4, 3)
        pad = draw(st.integers(0, 1))
        attributes: dict[str, Any] = {"strides": (1, 1), "padding": (pad,) * 4, "dilations": (1, 1), "groups": groups}
    else:
        flag = draw(st.booleans())
        weight_shape, shape = ((out, depth) if flag else (depth, out)), (2, 3, depth)
        attributes = {"transpose_a": False, "transpose_b": flag}
    w = graph.add_constant(integers(draw, dtype, weight_shape, near), "w")
    x = graph.add_input("x", TensorType(left, shape))
    w_zero = None if zero is None else graph.add_constant(integers(draw, dtype, zero, near), "w_zero")
    bias = None
    if conv and draw(st.booleans()):
        bias = graph.add_constant(np.arange(weight_shape[0], dtype=np.int32) * 100, "b")
    operands = [x, w, *([bias] if conv else []), x_zero, w_zero]
    graph.set_outputs(
        [("y", graph.add_node("conv_integer" if conv else "matmul_integer", operands, attributes).output)]
    )
    return graph, {"x": integers(draw, left, shape)}


@settings(max_examples=150)
@given(case=products())
def test_the_integers_stay_the_same(case: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, inputs = case
    expected = evaluate(graph, inputs)["y"]
    rewritten = graph.copy()
    PassContext().apply(rewritten, (WeightZero(),))
    np.testing.assert_array_equal(evaluate(rewritten, inputs)["y"], expected)
    for node in rewritten.nodes:
        if node.op in ("conv_integer", "matmul_integer") and node.attributes.get("groups", 1) == 1:
            assert node.input(1).type.dtype in ("int8", "int4")
            zero = 4 if node.op == "conv_integer" else 3
            assert node.inputs[zero:] in ((), (None,))


def qdq_model(zeros: np.ndarray, operators: str) -> onnx.ModelProto:
    """Two layers with uint8 weights: in QDQ form, or as QLinearConv and QLinearMatMul."""
    random = np.random.default_rng(0)
    highest = 90 if zeros.min() > 100 else 180
    w = np.clip(random.integers(-90, highest + 1, (16, 8, 3, 3)) + zeros.reshape(-1, 1, 1, 1), 0, 255).astype(np.uint8)
    m = random.integers(40, 216, (16, 24)).astype(np.uint8)
    constants = {
        "w": w,
        "w_zero": zeros.astype(np.uint8),
        "w_scale": random.uniform(0.004, 0.01, zeros.shape).astype(np.float32),
        "m": m,
        "m_zero": np.array(128, np.uint8),
        "m_scale": np.array(0.011371, np.float32),
        "x_scale": np.array(0.02, np.float32),
        "x_zero": np.array(120, np.uint8),
        "y_scale": np.array(0.1, np.float32),
        "y_zero": np.array(100, np.uint8),
    }
    nodes = [helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"])]
    if operators == "qdq":
        nodes += [
            helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
            helper.make_node("Conv", ["xd", "wd"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("QuantizeLinear", ["c", "y_scale", "y_zero"], ["cq"]),
            helper.make_node("DequantizeLinear", ["cq", "y_scale", "y_zero"], ["cd"]),
            helper.make_node("Transpose", ["cd"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("DequantizeLinear", ["m", "m_scale", "m_zero"], ["md"]),
            helper.make_node("MatMul", ["t", "md"], ["p"]),
            helper.make_node("QuantizeLinear", ["p", "y_scale", "y_zero"], ["y"]),
        ]
    else:
        step, end = ["x_scale", "x_zero"], ["y_scale", "y_zero"]
        nodes += [
            helper.make_node("QLinearConv", ["xq", *step, "w", "w_scale", "w_zero", *end], ["cq"], pads=[1, 1, 1, 1]),
            helper.make_node("Transpose", ["cq"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("QLinearMatMul", ["t", *end, "m", "m_scale", "m_zero", *end], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "uint8_weights",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 9, 10))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, (1, 9, 10, 24))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("operators", ["qdq", "qlinear"])
@pytest.mark.parametrize("zeros", ["128", "channels", "outside"])
@pytest.mark.parametrize("target_name", ["host", "x86-64-v3"])
def test_a_model_with_unsigned_weights(target_name: str, zeros: str, operators: str, tmp_path: Path) -> None:
    """Against onnxruntime; `outside` leaves differences that need more than 8 bits."""
    points = {"128": np.full(16, 128), "channels": np.arange(116, 132), "outside": np.arange(60, 76)}[zeros]
    model = qdq_model(points, operators)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.random.default_rng(1).uniform(-2, 2, (1, 8, 9, 10)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"x": x})[0])
    graph, target = load(path), lookup(target_name).with_cores(1)
    default_pipeline(target).run(graph, PassContext(target=target))
    lowered = build(graph, target)
    got = Runner(graph, lowered)({"x": x})["y"]
    np.testing.assert_array_equal(got, evaluate(graph, {"x": x})["y"])
    apart = np.abs(got.astype(int) - expected.astype(int))
    assert apart.max() <= 2 and np.mean(apart > 0) < 0.02
    products = [kernel for kernel in lowered.kernels if kernel.task.anchor in ("conv_integer", "matmul_integer")]
    assert {kernel.template for kernel in products} <= {"integer_conv", "integer_winograd", "integer-matmul"}
    # Where a part of the zero points is left, a further product sums the input.
    assert len(products) == (2 if zeros != "outside" else 3)
