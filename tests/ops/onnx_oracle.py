"""Runs one operator here and in an independent ONNX implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

import edgeir.ops  # noqa: F401 (registers the operators)
from edgeir.ir import Graph, TensorType
from edgeir.ir.dtype import dtype_name
from edgeir.ir.evaluate import evaluate


def build(op: str, types: Sequence[TensorType | None], attributes: Mapping[str, Any] | None = None) -> Graph:
    """A graph of one node on inputs x0, x1, … of these types, with outputs y0, y1, …; verified."""
    graph = Graph()
    operands = [None if type is None else graph.add_input(f"x{i}", type) for i, type in enumerate(types)]
    node = graph.add_node(op, operands, attributes)
    graph.set_outputs([(f"y{i}", value) for i, value in enumerate(node.outputs)])
    graph.verify()
    return graph


def infer(op: str, types: Sequence[TensorType | None], attributes: Mapping[str, Any] | None = None) -> TensorType:
    """The type of the only output."""
    (value,) = build(op, types, attributes).outputs
    return value.type


def run(op: str, arrays: Sequence[np.ndarray | None], attributes: Mapping[str, Any] | None = None) -> np.ndarray:
    """The only output, by the reference evaluation (which checks it against the inferred type)."""
    types = [None if a is None else TensorType(dtype_name(a.dtype), a.shape) for a in arrays]
    inputs = {f"x{i}": array for i, array in enumerate(arrays) if array is not None}
    (result,) = evaluate(build(op, types, attributes), inputs).values()
    return result


def onnx_run(
    op: str,
    arrays: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any] | None = None,
    opset: int = 21,
    evaluator: str = "onnxruntime",
) -> np.ndarray:
    """The first output of an ONNX operator by onnxruntime, or by the reference evaluator of the onnx package."""
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    given = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    node = helper.make_node(op, names, ["y"], **(attributes or {}))
    output = onnx.ValueInfoProto(name="y")
    model = helper.make_model(
        helper.make_graph([node], "one", inputs, [output]), opset_imports=[helper.make_opsetid("", opset)]
    )
    model.ir_version = 10
    model = onnx.shape_inference.infer_shapes(model)
    if evaluator == "onnx":
        return np.asarray(ReferenceEvaluator(model).run(None, given)[0])  # type: ignore[index]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, given)[0])


def assert_same(got: np.ndarray, expected: np.ndarray, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Same dtype, shape and elements (NaN equals NaN), up to rounding for floats."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol)


__all__ = ["assert_same", "build", "infer", "onnx_run", "run"]
