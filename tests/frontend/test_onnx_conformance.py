"""The standard's own node cases: imported, evaluated, compared with the results that come with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import pytest
from onnx import NodeProto, numpy_helper

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.frontend import from_model
from edgeir.ir.evaluate import evaluate

# Operands that hold weights, shapes or axes become constants: all but the first, or those listed.
_ALL_BUT_FIRST = frozenset(
    [
        "BatchNormalization",
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "CumProd",
        "CumSum",
        "DFT",
        "DequantizeLinear",
        "Dropout",
        "Expand",
        "Gemm",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Pad",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Reshape",
        "Resize",
        "STFT",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "TopK",
        "Trilu",
        "Unsqueeze",
        "Upsample",
    ]
)
_ALL = frozenset(["BlackmanWindow", "ConstantOfShape", "HammingWindow", "HannWindow", "NonZero", "Range", "Unique"])
_SOME = {"AffineGrid": (1,), "If": (0,), "LSTM": (1, 2, 3), "GRU": (1, 2, 3), "RNN": (1, 2, 3), "OneHot": (1, 2)}

# Operators that import refuses, and why; any other refusal fails.
REFUSED = {
    "BatchNormalization": "training",
    "Cast": "4-bit floats and 2-bit integers",
    "CastLike": "4-bit floats and 2-bit integers",
    "DequantizeLinear": "4-bit floats and 2-bit integers",
    "Det": "no operator",
    "Dropout": "training",
    "LinearAttention": "Scan",
    "Loop": "control flow",
    "MaxPool": "indices",
    "MaxUnpool": "no operator",
    "MelWeightMatrix": "no operator",
    "NonMaxSuppression": "shape depends on data",
    "Not": "opset 1",
    "QuantizeLinear": "4-bit floats and 2-bit integers",
    "Scan": "control flow",
}
_SKIPPED = ("Random", "Sequence", "Optional", "String", "Regex", "TfIdf", "ImageDecoder", "Bernoulli", "Multinomial")
_UNREPRESENTABLE = {onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}


def frozen(nodes: list[NodeProto], inputs: Mapping[str, np.ndarray]) -> set[str]:
    if len(nodes) > 1:
        # Bodies of functions: what is small and whole is a shape, an axis or a length.
        names = list(inputs)[1:]
        return {name for name in names if inputs[name].dtype.kind in "iu" and inputs[name].size <= 8}
    node = nodes[0]
    positions: object = range(1, len(node.input)) if node.op_type in _ALL_BUT_FIRST else _SOME.get(node.op_type, ())
    positions = range(len(node.input)) if node.op_type in _ALL else positions
    return {node.input[i] for i in positions if i < len(node.input) and node.input[i]}  # type: ignore[union-attr]


def array_of(item: object) -> np.ndarray:
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else np.asarray(item)


def cases() -> Iterator[tuple[str, onnx.ModelProto, list[np.ndarray], list[np.ndarray]]]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    for test in tests:
        model = test.model
        if model is None or not test.data_sets or any(entry.domain for entry in model.opset_import):
            continue
        values = [*model.graph.input, *model.graph.output]
        if any(value.type.WhichOneof("value") != "tensor_type" for value in values):
            continue
        if any(value.type.tensor_type.elem_type in _UNREPRESENTABLE for value in values):
            continue
        if any(node.op_type.startswith(_SKIPPED) for node in model.graph.node):
            continue
        inputs, outputs = ([array_of(item) for item in part] for part in test.data_sets[0])
        yield test.name, model, inputs, outputs


def run(model: onnx.ModelProto, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    inputs = dict(zip([value.name for value in model.graph.input], arrays, strict=True))
    constant = frozen(list(model.graph.node), inputs)
    if any(word in model.graph.name for word in ("hann", "hamming", "blackman", "range")):
        constant = set(inputs)
    shapes = {name: array.shape for name, array in inputs.items()}
    graph = from_model(model, shapes, freeze={name: inputs[name] for name in constant})
    return evaluate(graph, {name: array for name, array in inputs.items() if name not in constant})


def difference(found: np.ndarray, expected: np.ndarray) -> str:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{found.dtype}{found.shape}, not {expected.dtype}{expected.shape}"
    if "float" not in expected.dtype.name:
        return "" if np.array_equal(found, expected) else "different values"
    tolerance = {"bfloat16": 0.02, "float16": 0.005}.get(expected.dtype.name, 1e-3)
    absolute = 1e-6 if tolerance == 1e-3 else tolerance / 2
    same = np.allclose(found.astype(float), expected.astype(float), rtol=tolerance, atol=absolute, equal_nan=True)
    return "" if same else "different values"


@pytest.mark.filterwarnings("ignore")
def test_node_cases() -> None:
    passed, refused, failures = 0, 0, []
    for name, model, arrays, expected in cases():
        try:
            results = run(model, arrays)
        except UnsupportedModelError as error:
            refused += 1
            if model.graph.node[-1].op_type not in REFUSED:
                failures.append(f"{name}: {error}")
            continue
        except EdgeIRError as error:
            failures.append(f"{name}: {error}")
            continue
        found = [difference(results[o.name], array) for o, array in zip(model.graph.output, expected, strict=True)]
        passed += not any(found)
        if any(found):
            failures.append(f"{name}: {'; '.join(filter(None, found))}")
    assert not failures, "\n".join(failures)
    assert passed > 1600
    assert refused < 0.07 * (passed + refused)
