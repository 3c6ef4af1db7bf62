"""The cases of the onnx package: which there are, which are in scope, and which operands are constants in practice."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")

WEIGHTS_AND_STRUCTURE: dict[str, tuple[str, ...]] = {
    "AffineGrid": ("size",),
    "BatchNormalization": ("scale", "B", "input_mean", "input_var", "mean", "var"),
    "BlackmanWindow": ("size",),
    "CenterCropPad": ("shape",),
    "Clip": ("min", "max"),
    "Col2Im": ("image_shape", "block_shape"),
    "ConstantOfShape": ("input",),
    "Conv": ("W", "B"),
    "ConvInteger": ("w", "x_zero_point", "w_zero_point"),
    "ConvTranspose": ("W", "B"),
    "CumProd": ("axis",),
    "CumSum": ("axis",),
    "DFT": ("dft_length", "axis"),
    "DeformConv": ("W", "B"),
    "DequantizeLinear": ("x_scale", "x_zero_point"),
    "Dropout": ("ratio", "training_mode"),
    "Expand": ("shape",),
    "GRU": ("W", "R", "B"),
    "Gemm": ("B", "C"),
    "GroupNormalization": ("scale", "bias"),
    "HammingWindow": ("size",),
    "HannWindow": ("size",),
    "If": ("cond",),
    "InstanceNormalization": ("scale", "B"),
    "LSTM": ("W", "R", "B", "P"),
    "LayerNormalization": ("Scale", "B"),
    "MelWeightMatrix": ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"),
    "NonMaxSuppression": ("max_output_boxes_per_class", "iou_threshold", "score_threshold"),
    "OneHot": ("depth", "values"),
    "PRelu": ("slope",),
    "Pad": ("pads", "constant_value", "axes"),
    "QLinearConv": (
        "x_scale",
        "x_zero_point",
        "w",
        "w_scale",
        "w_zero_point",
        "y_scale",
        "y_zero_point",
        "B",
    ),
    "QLinearMatMul": (
        "a_scale",
        "a_zero_point",
        "b_scale",
        "b_zero_point",
        "y_scale",
        "y_zero_point",
    ),
    "QuantizeLinear": ("y_scale", "y_zero_point"),
    "RNN": ("W", "R", "B"),
    "RMSNormalization": ("scale",),
    "Range": ("start", "limit", "delta"),
    "Reshape": ("shape",),
    "Resize": ("roi", "scales", "sizes"),
    "STFT": ("frame_step", "window", "frame_length"),
    "Slice": ("starts", "ends", "axes", "steps"),
    "Split": ("split",),
    "Squeeze": ("axes",),
    "Tile": ("repeats", "tiles", "axis"),
    "TopK": ("K",),
    "Trilu": ("k",),
    "Unsqueeze": ("axes",),
    "Upsample": ("scales",),
}
"""Operator → names of the operands (in the standard) that exporters emit as constants; `Reduce*` take `axes` so."""

_CONTROL_FLOW = ("Loop", "Scan")
_RANDOM = ("Random", "Bernoulli", "Multinomial")
_STRINGS = ("String", "Regex", "TfIdf", "LabelEncoder")
_STRING_LIKE = {onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: as the onnx package calls it.
        operator: the operator that it tests.
        group: `single operator`, `function body` (the same computation expanded by the standard), `simple`, or
            `PyTorch-made`.
        model: the serialised model.
        inputs: input name → array, of every data set.
        outputs: expected arrays in the order of the graph's outputs, of every data set.
        frozen: inputs that become constants.
        rtol: relative tolerance.
        atol: absolute tolerance.
        out_of_scope: why it is not run; "" if it is.
    """

    name: str
    operator: str
    group: str
    model: bytes
    inputs: tuple[dict[str, np.ndarray], ...]
    outputs: tuple[tuple[np.ndarray, ...], ...]
    frozen: tuple[str, ...]
    rtol: float
    atol: float
    out_of_scope: str = ""


def load_cases(kinds: Sequence[str] = KINDS, text: str = "") -> Iterator[Case]:
    """The cases of these kinds whose name contains a text."""
    from onnx.backend.test.loader import load_model_tests

    frozen: dict[str, tuple[str, ...]] = {}
    for kind in kinds:
        with warnings.catch_warnings():
            # Some cases are made with overflowing casts on purpose.
            warnings.simplefilter("ignore")
            tests = load_model_tests(kind=kind)
        # A function body comes after the operator that it expands, whose constants it shares.
        for test in sorted(tests, key=lambda item: item.name):
            model = test.model if test.model is not None else onnx.load(Path(str(test.model_dir)) / "model.onnx")
            base = re.sub(r"_expanded(_function)?(_ver\d+)?$", "", test.name)
            expanded = base != test.name
            if not expanded:
                frozen[test.name] = constant_inputs(model)
            if text not in test.name:
                continue
            group = "PyTorch-made" if kind.startswith("pytorch") else "simple" if kind == "simple" else ""
            group = group or ("function body" if expanded else "single operator")
            names = frozen.get(base, ()) if expanded else frozen[test.name]
            yield _case(test, model, group, names)


def constant_inputs(model: ModelProto) -> tuple[str, ...]:
    """The graph inputs that only feed operands which exporters emit as constants."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    structural, other = set(), set()
    for node in model.graph.node:
        names = operand_names(node, versions.get(node.domain, 1))
        chosen = WEIGHTS_AND_STRUCTURE.get(node.op_type, ("axes",) if node.op_type.startswith("Reduce") else ())
        for name, operand in zip(node.input, names, strict=False):
            (structural if operand in chosen else other).add(name)
    return tuple(value.name for value in model.graph.input if value.name in structural - other)


def operand_names(node: NodeProto, version: int) -> list[str]:
    """Names of a node's operands in the standard; those of a variadic operand are repeated."""
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return []
    names = [operand.name for operand in schema.inputs]
    return names + names[-1:] * max(0, len(node.input) - len(names))


def scope(model: ModelProto) -> str:
    """Why a model is out of scope; "" if it is not."""
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            return f"domain {entry.domain}"
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return "optionals" if kind == "optional_type" else "sequences"
        if value.type.tensor_type.elem_type in _STRING_LIKE:
            return "strings or complex numbers"
    for node in model.graph.node:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type in _CONTROL_FLOW:
            return "control flow"
        if node.op_type.startswith(_RANDOM):
            return "random"
        if node.op_type.startswith(("Sequence", "SplitToSequence", "ConcatFromSequence")):
            return "sequences"
        if node.op_type.startswith("Optional"):
            return "optionals"
        if node.op_type.startswith(_STRINGS):
            return "strings or complex numbers"
        if node.op_type == "ImageDecoder":
            return "image decoder"
        if node.op_type == "BatchNormalization" and attributes.get("training_mode"):
            return "training"
    return ""


def _case(test: object, model: ModelProto, group: str, frozen: tuple[str, ...]) -> Case:
    reason = scope(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    data = test.data_sets if test.data_sets is not None else _stored_data(Path(test.model_dir))  # type: ignore[attr-defined]
    inputs, outputs = [], []
    if not reason:
        for arrays, expected in data:
            names = [value.name for value in model.graph.input]
            if len(arrays) != len(names):
                names = [name for name in names if name not in weights]
            given = dict(zip(names, map(_array, arrays), strict=True))
            inputs.append(given)
            outputs.append(tuple(map(_array, expected)))
        if _trains(model, inputs[0]):
            reason = "training"
    return Case(
        name=test.name,  # type: ignore[attr-defined]
        operator=_operator(test.name, model, group),  # type: ignore[attr-defined]
        group=group,
        model=model.SerializeToString(),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        frozen=frozen,
        rtol=test.rtol,  # type: ignore[attr-defined]
        atol=test.atol,  # type: ignore[attr-defined]
        out_of_scope=reason,
    )


def _trains(model: ModelProto, inputs: dict[str, np.ndarray]) -> bool:
    """Whether Dropout is asked to drop: its mask is random."""
    for node in model.graph.node:
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in inputs:
            return bool(inputs[node.input[2]].any())
    return False


def _operator(name: str, model: ModelProto, group: str) -> str:
    if group == "function body":
        # The body's own operators say little; the case's name tells the operator.
        return "body of " + re.sub(r"_expanded.*", "", name).removeprefix("test_").split("_")[0]
    return model.graph.node[0].op_type if len(model.graph.node) == 1 else "several operators"


def _stored_data(folder: Path) -> list[tuple[list[onnx.TensorProto], list[onnx.TensorProto]]]:
    def read(path: Path) -> onnx.TensorProto:
        tensor = onnx.TensorProto()
        tensor.ParseFromString(path.read_bytes())
        return tensor

    def numbered(part: Path, stem: str) -> list[Path]:
        return sorted(part.glob(f"{stem}_*.pb"), key=lambda path: int(path.stem.rpartition("_")[2]))

    sets = []
    for part in sorted(folder.glob("test_data_set_*")):
        sets.append(([read(p) for p in numbered(part, "input")], [read(p) for p in numbered(part, "output")]))
    return sets


def _array(item: object) -> np.ndarray:
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else np.asarray(item)
