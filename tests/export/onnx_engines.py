"""Independent engines that run exported models: ONNX Runtime, and ONNX's reference where it lacks a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

onnxruntime.set_default_logger_severity(4)

Engine = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def run_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output name → array, without ONNX Runtime's own graph optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {}
    for name, array in inputs.items():
        # ONNX Runtime's Python binding knows numpy's own element types; others it takes by their bits.
        exotic = array.dtype.kind not in "biuf"
        code = int(helper.np_dtype_to_tensor_dtype(array.dtype))
        feeds[name] = (
            onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(f"u{array.dtype.itemsize}"), code)
            if exotic
            else onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array))
        )
    results = session.run_with_ort_values(names, feeds)
    return {name: result.numpy() for name, result in zip(names, results, strict=True)}


def run_reference(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output name → array, by ONNX's reference implementation."""
    names = [output.name for output in model.graph.output]
    results = ReferenceEvaluator(model).run(None, dict(inputs))
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}
