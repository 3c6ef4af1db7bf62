"""Small ONNX models from text, and their results in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime

from edgeir.frontend import from_model
from edgeir.ir import Graph
from edgeir.ir.evaluate import evaluate

Arrays = Mapping[str, np.ndarray]


def parse(
    signature: str, body: str, opset: int, weights: str = "", weight_arrays: Arrays | None = None
) -> onnx.ModelProto:
    """A model from ONNX text: `(float[N,4] x) => (float[N,4] y)`, its nodes, and initializers in text or as arrays."""
    declared = f"<{weights}>" if weights else ""
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = onnx.parser.parse_model(f"{header} network {signature} {declared} {{ {body} }}")
    for name, array in (weight_arrays or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def random_inputs(
    model: onnx.ModelProto, sizes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random arrays for the inputs; symbolic dimensions take `sizes`, or 2."""
    rng = np.random.default_rng(seed)
    result = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value or (sizes or {}).get(d.dim_param, 2) for d in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind == "f":
            result[value.name] = rng.normal(size=shape).astype(dtype)
        elif dtype.kind == "b":
            result[value.name] = rng.random(shape) < 0.5
        else:
            result[value.name] = rng.integers(0, 3, shape).astype(dtype)
    return result


def check(
    model: onnx.ModelProto,
    inputs: Arrays | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float = 1e-5,
) -> Graph:
    """Imports a model, evaluates it, and compares every output with onnxruntime; returns the graph."""
    inputs = random_inputs(model, sizes) if inputs is None else inputs
    graph = from_model(model)
    results = evaluate(graph, inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    for name, found in zip(names, session.run(names, dict(inputs)), strict=True):
        expected = np.asarray(found)
        assert results[name].dtype == expected.dtype
        assert results[name].shape == expected.shape
        np.testing.assert_allclose(results[name], expected, rtol=tolerance, atol=tolerance, err_msg=name)
    return graph


def operators(graph: Graph) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op for node in graph.nodes]
