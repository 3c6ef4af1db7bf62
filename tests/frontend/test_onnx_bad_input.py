"""Broken models: each is refused with one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.frontend import from_model, load
from tests.frontend.onnx_text_models import parse

FLOAT = TensorProto.FLOAT


def small() -> onnx.ModelProto:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    return parse("(float[1,3,8,8] x) => (float[1,4,6,6] y)", "c = Conv(x, w) y = Relu(c)", 13, weight_arrays=weights)


def no_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def dangling_input(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "nowhere"


def unordered(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def value_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "c"


def initializer_twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def input_twice(model: onnx.ModelProto) -> None:
    model.graph.input.append(model.graph.input[0])


def output_twice(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


def weights_of_wrong_rank(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 27), np.float32), "w"))


def weights_of_wrong_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float64), "w"))


def weights_too_short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"\0" * 12


def negative_weight_dimension(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -4


def huge_weight_dimensions(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**40, 2**40])


def unknown_weight_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def negative_input_dimension(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -8


def huge_input(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 2**20


def opset_of_the_future(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1


def opset_of_the_past(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 5


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def ir_version_of_the_future(model: onnx.ModelProto) -> None:
    model.ir_version = onnx.IR_VERSION + 1


def unknown_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("colour", 1))


def attribute_of_wrong_kind(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", "two"))


def strides_of_zero(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [0, 0]))


def strides_too_many(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [1, 1, 1, 1]))


def no_groups(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("group", 0))


def too_few_operands(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[1:]


def output_of_wrong_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32


def text_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def no_rank(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


BREAKAGES: tuple[Callable[[onnx.ModelProto], None], ...] = (
    no_outputs,
    cycle,
    dangling_input,
    unordered,
    value_twice,
    initializer_twice,
    input_twice,
    output_twice,
    weights_of_wrong_rank,
    weights_of_wrong_type,
    weights_too_short,
    negative_weight_dimension,
    huge_weight_dimensions,
    unknown_weight_type,
    negative_input_dimension,
    huge_input,
    opset_of_the_future,
    opset_of_the_past,
    no_opset,
    ir_version_of_the_future,
    unknown_attribute,
    attribute_of_wrong_kind,
    strides_of_zero,
    strides_too_many,
    no_groups,
    too_few_operands,
    output_of_wrong_type,
    text_input,
    no_rank,
)


def test_the_model_itself_is_good() -> None:
    assert len(from_model(small())) == 2


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_broken_model(breakage: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    model = small()
    breakage(model)
    with pytest.raises(EdgeIRError) as in_memory:
        from_model(model)
    assert in_memory.value.what
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EdgeIRError):
        load(tmp_path / "model.onnx")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeIRError, match="no such model file"):
        load(tmp_path / "missing.onnx")
    with pytest.raises(EdgeIRError, match="no such model file"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\xff" * 100, b"<html></html>"])
def test_not_a_model(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(EdgeIRError, match="ONNX model"):
        load(path)


def test_truncated_file(tmp_path: Path) -> None:
    data = small().SerializeToString()
    path = tmp_path / "model.onnx"
    for size in range(1, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(EdgeIRError):
            load(path)


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    data = small().SerializeToString()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = rng.integers(0, 256)
        path = tmp_path / "model.onnx"
        path.write_bytes(damaged)
        try:
            load(path)
        except EdgeIRError:
            refused += 1
    assert refused > 20


def test_fill_too_large_to_exist() -> None:
    model = parse(
        "(float[1] x) => (float[a,b] y)",
        "c = ConstantOfShape(s) y = Add(c, x)",
        13,
        "int64[2] s = {2097152, 2097152}",
    )
    with pytest.raises(EdgeIRError, match="too large"):
        from_model(model)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Range(a, b, c)", "float a = {0.0}, float b = {1e30}, float c = {1.0}"),
        ("y = Range(a, b, c)", "float a = {0.0}, float b = {1.0}, float c = {0.0}"),
        ("t = Expand(x, s) y = ReduceSum<keepdims=0>(t)", "int64[2] s = {4294967296, 4294967296}"),
        ("t = Tile(x, s) y = ReduceSum<keepdims=0>(t)", "int64[1] s = {4611686018427387904}"),
        ("t = Pad(x, s) y = ReduceSum<keepdims=0>(t)", "int64[2] s = {0, 4611686018427387904}"),
        ("t = Reshape(x, s) y = ReduceSum<keepdims=0>(t)", "int64[2] s = {-1, -1}"),
        ("t = Reshape(x, s) y = ReduceSum<keepdims=0>(t)", "int64[2] s = {-7, 1}"),
        ("t = Gather(x, s) y = ReduceSum<keepdims=0>(t)", "int64[1] s = {7}"),
    ],
)
def test_operands_out_of_range(body: str, weights: str) -> None:
    model = parse("(float[1] x) => (float[n] y)", body, 13, weights)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    if "Gather" in body:
        # Only a constant can be looked up at import.
        model.graph.input.pop()
        model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "x"))
    with pytest.raises(EdgeIRError):
        from_model(model)


def test_functions_that_call_themselves() -> None:
    model = parse("(float[2] x) => (float[2] y)", "y = Relu(x)", 13)
    model.opset_import.append(helper.make_opsetid("own", 1))
    node = helper.make_node("F", ["a"], ["b"], domain="own")
    opsets = [helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], [node], opsets))
    model.graph.node[0].op_type, model.graph.node[0].domain = "F", "own"
    with pytest.raises(EdgeIRError):
        from_model(model)


def test_all_unsupported_nodes_are_listed() -> None:
    body = "i = NonZero(x) d = Det(x) e = Add(d, d) f = Exp(x) y = Det(f)"
    model = parse("(float[2,2] x) => (int64[2,n] i, float e, float y)", body, 13)
    model.graph.node[4].name = "last"
    with pytest.raises(UnsupportedModelError) as error:
        from_model(model)
    lines = (error.value.details or "").splitlines()
    assert len(lines) == 3
    assert "NonZero:i: NonZero (ai.onnx, opset 13): input 0 (%x) must be constant" in lines[0]
    assert "Det:d: Det (ai.onnx, opset 13): operator not supported" in lines[1]
    assert "last: Det (ai.onnx, opset 13)" in lines[2]


def test_unknown_domain_is_listed() -> None:
    model = parse("(float[2] x) => (float[2] y)", "y = Relu(x)", 13)
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    model.graph.node[0].domain = "com.example"
    with pytest.raises(UnsupportedModelError, match=r"Relu \(com.example, opset 3\)"):
        from_model(model)


def test_control_flow_that_stays() -> None:
    branches = "then_branch = t () => (float[2] a) { a = Exp(x) }, else_branch = e () => (float[2] b) { b = Abs(x) }"
    body = f"y = If(c) <{branches}>"
    model = parse("(bool c, float[2] x) => (float[2] y)", body, 13)
    with pytest.raises(UnsupportedModelError, match="control flow"):
        from_model(model)


def test_unsupported_nodes_that_nothing_needs_do_not_matter() -> None:
    model = parse("(float[2,2] x) => (float[2,2] y)", "d = Det(x) y = Exp(x)", 13)
    assert len(from_model(model)) == 1


def test_an_attribute_value_that_the_ir_lacks_is_listed() -> None:
    model = parse(
        "(float[1,1,2,2] x) => (float[1,1,4,4] y)",
        'y = Resize<coordinate_transformation_mode="tf_half_pixel_for_nn">(x, r, s)',
        11,
        "float[0] r = {}, float[4] s = {1.0,1.0,2.0,2.0}",
    )
    with pytest.raises(UnsupportedModelError, match=r"Resize:y.*tf_half_pixel_for_nn"):
        from_model(model)
