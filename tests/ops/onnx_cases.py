"""Running operators through a graph, and the references they are held to."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

import edgeir.ops  # noqa: F401
from edgeir.ir import Graph, TensorType
from edgeir.ir.dtype import dtype_name
from edgeir.ir.evaluate import evaluate
from edgeir.ir.graph import infer_types
from edgeir.ir.op import find_op
from edgeir.ir.types import parse_type


def run(op: str, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> list[np.ndarray]:
    """Evaluates one node; the evaluator checks results against inferred types, the verifier the graph."""
    graph = Graph("one_node")
    operands = [
        None if array is None else graph.add_input(f"in{i}", TensorType(dtype_name(array.dtype), array.shape))
        for i, array in enumerate(inputs)
    ]
    node = graph.add_node(op, operands, attributes)
    graph.set_outputs([(f"out{i}", value) for i, value in enumerate(node.outputs)])
    graph.verify()
    given = {f"in{i}": array for i, array in enumerate(inputs) if array is not None}
    return list(evaluate(graph, given).values())


def infer(op: str, types: Sequence[str | None], attributes: Mapping[str, Any]) -> list[str]:
    """Types of the results of one node on operands of these types (as text), layouts included."""
    graph = Graph("one_node")
    operands = [None if t is None else graph.add_input(f"in{i}", parse_type(t)) for i, t in enumerate(types)]
    definition = find_op(op)
    definition.check_arity(operands)
    return [str(t) for t in infer_types(definition, operands, definition.normalize(attributes))]


def run_onnx(
    op_type: str,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any],
    outputs: int = 1,
    opset: int = 22,
    runtime: bool = False,
) -> list[np.ndarray]:
    """One ONNX node by the reference evaluator of onnx, or by onnxruntime."""
    names = ["" if array is None else f"in{i}" for i, array in enumerate(inputs)]
    results = [f"out{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, results, **attributes)
    graph_inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
        if array is not None
    ]
    graph = helper.make_graph([node], "one_node", graph_inputs, [onnx.ValueInfoProto(name=name) for name in results])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    feeds = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    if runtime:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return [np.asarray(array) for array in session.run(results, feeds)]
    return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, feeds)]  # type: ignore[union-attr]


class NodeCase:
    """A node test of the ONNX standard: its node's inputs, attributes and expected outputs."""

    def __init__(self, case: Any) -> None:
        (node,) = case.model.graph.node
        data, self.expected = case.data_sets[0]
        given = dict(zip([value.name for value in case.model.graph.input], data, strict=True))
        self.op_type: str = node.op_type
        self.inputs: list[np.ndarray | None] = [given.get(name) for name in node.input]
        self.attributes: dict[str, Any] = {a.name: _python(helper.get_attribute_value(a)) for a in node.attribute}
        self.outputs: list[str] = list(node.output)
        self.rtol: float = case.rtol
        self.atol: float = case.atol

    def input(self, position: int) -> np.ndarray | None:
        """The array of an input, None where it is absent or empty."""
        array = self.inputs[position] if position < len(self.inputs) else None
        return None if array is None or array.size == 0 else array


def _python(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_python(item) for item in value]
    return value


@functools.cache
def _cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name.removeprefix("test_"): case for case in load_model_tests(kind="node")}


def node_case(name: str) -> NodeCase:
    """The node test of that name (without `test_`)."""
    return NodeCase(_cases()[name])
