from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import Graph, TensorType, symbol
from tests.ops.onnx_oracle import assert_same, build, infer, onnx_run, run

N, H = symbol("N"), symbol("H")


def conv_attributes(rank: int, **given: object) -> dict[str, object]:
    return {"strides": [1] * rank, "padding": [0] * 2 * rank, "dilations": [1] * rank, **given}


def onnx_attributes(attributes: dict) -> dict:
    names = {"padding": "pads", "groups": "group"}
    return {names.get(key, key): value for key, value in attributes.items()}


@st.composite
def cases(draw: st.DrawFn) -> tuple:
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    many = lambda low, high, count=rank: draw(st.lists(st.integers(low, high), min_size=count, max_size=count))  # noqa: E731
    attributes = {
        "strides": many(1, 3),
        "padding": many(0, 2, 2 * rank),
        "dilations": many(1, 2),
        "groups": groups,
    }
    sizes, kernel = many(5, 8), many(1, 3)
    depth, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return draw(st.integers(1, 2)), sizes, kernel, depth, width, attributes, draw(st.booleans())


def random_arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@given(cases())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_conv(case: tuple) -> None:
    batch, sizes, kernel, depth, width, attributes, bias = case
    groups = attributes["groups"]
    x, w, b = random_arrays((batch, depth * groups, *sizes), (width * groups, depth, *kernel), (width * groups,))
    arrays = [x, w, b] if bias else [x, w]
    assert_same(
        run("conv", arrays, attributes), onnx_run("Conv", arrays, onnx_attributes(attributes)), rtol=1e-4, atol=1e-5
    )


@given(cases(), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_conv_transpose(case: tuple, data: st.DataObject) -> None:
    batch, sizes, kernel, depth, width, attributes, bias = case
    groups = attributes["groups"]
    extra = [data.draw(st.integers(0, stride - 1)) for stride in attributes["strides"]]
    attributes = {**attributes, "output_padding": extra}
    x, w, b = random_arrays((batch, depth * groups, *sizes), (depth * groups, width, *kernel), (width * groups,))
    arrays = [x, w, b] if bias else [x, w]
    got = run("conv_transpose", arrays, attributes)
    assert_same(got, onnx_run("ConvTranspose", arrays, onnx_attributes(attributes)), rtol=1e-4, atol=1e-5)


def test_integers() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 255, (1, 2, 6, 6)).astype(np.uint8), rng.integers(-128, 127, (3, 2, 3, 3)).astype(np.int8)
    got = run("conv", [x.astype(np.int32), w.astype(np.int32)], conv_attributes(2, padding=[1, 1, 1, 1]))
    expected = onnx_run("ConvInteger", [x, w.astype(np.uint8) ^ 128, None, np.array(128, np.uint8)], {"pads": [1] * 4})
    assert_same(got, expected)


def test_half_precision_accumulates_in_float32() -> None:
    x, w = random_arrays((1, 64, 8, 8), (4, 64, 3, 3))
    x, w = x.astype(np.float16), w.astype(np.float16)
    expected = run("conv", [x.astype(np.float32), w.astype(np.float32)], conv_attributes(2)).astype(np.float16)
    assert_same(run("conv", [x, w], conv_attributes(2)), expected, rtol=0, atol=0)


def test_symbolic_shapes() -> None:
    x, w = TensorType("float32", (N, 3, H, 32)), TensorType("float32", (8, 3, 3, 3))
    attributes = conv_attributes(2, padding=[1, 1, 1, 1])
    assert infer("conv", [x, w], attributes).shape == (N, 8, H, 32)
    halved = infer("conv", [x, w], {**attributes, "strides": [2, 2]})
    assert halved.shape == (N, 8, (H - 1) // 2 + 1, 16)
    assert halved.bind({"H": 17, "N": 1}).shape == (1, 8, 9, 16)
    w = TensorType("float32", (3, 4, 2, 2))
    up = {**conv_attributes(2, strides=[2, 2]), "output_padding": [0, 0]}
    assert infer("conv_transpose", [x, w], up).shape == (N, 4, 2 * H, 64)


def test_macs() -> None:
    graph = build(
        "conv",
        [TensorType("float32", (N, 6, 8, 8)), TensorType("float32", (4, 3, 3, 3))],
        conv_attributes(2, padding=[1, 1, 1, 1], groups=2),
    )
    (node,) = graph.nodes
    types = [value.type for value in node.present_inputs]
    assert node.definition.macs(types, [node.output.type], node.attributes) == N * 4 * 64 * 27
    graph = build(
        "conv_transpose",
        [TensorType("float32", (1, 6, 8, 8)), TensorType("float32", (6, 5, 2, 2))],
        {**conv_attributes(2, strides=[2, 2]), "output_padding": [0, 0]},
    )
    (node,) = graph.nodes
    types = [value.type for value in node.present_inputs]
    assert node.definition.macs(types, [node.output.type], node.attributes) == 6 * 64 * 5 * 4


@pytest.mark.parametrize(
    ("shapes", "attributes", "message"),
    [
        (((1, 4, 8, 8), (8, 3, 3, 3)), {}, "channels of x and w do not fit"),
        (((1, 4, 8, 8), (9, 2, 3, 3)), {"groups": 2}, "groups do not divide"),
        (((1, 3, 8, 8), (8, 3, 3)), {}, "w has the wrong rank"),
        (((1, 3), (8, 3)), {}, "x has the wrong rank"),
        (((1, 3, 2, 8), (8, 3, 3, 3)), {}, "window does not fit into spatial axis 0"),
        (((1, 3, 8, 8), (8, 3, 3, 3), (7,)), {}, "bias has the wrong shape"),
        (((1, 3, 8, 8), (8, 3, 3, 3)), {"strides": [1]}, "strides is wrong"),
        (((1, 3, 8, 8), (8, 3, 3, 3)), {"strides": [0, 1]}, "strides is wrong"),
        (((1, 3, 8, 8), (8, 3, 3, 3)), {"padding": [-1, 0, 0, 0]}, "padding is wrong"),
        (((1, 3, 8, 8), (8, 3, 3, 3)), {"groups": 0}, "groups is out of range"),
    ],
)
def test_wrong_inputs(shapes: tuple, attributes: dict, message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        infer("conv", [TensorType("float32", shape) for shape in shapes], conv_attributes(2, **attributes))


def test_wrong_output_padding() -> None:
    types = [TensorType("float32", (1, 3, 8, 8)), TensorType("float32", (3, 4, 2, 2))]
    with pytest.raises(TypeInferenceError, match="output_padding is wrong"):
        infer("conv_transpose", types, {**conv_attributes(2), "output_padding": [0]})
    with pytest.raises(TypeInferenceError, match="padding exceeds the result"):
        infer("conv_transpose", types, {**conv_attributes(2, padding=[9] * 4), "output_padding": [0, 0]})


def test_layouts_are_chosen() -> None:
    graph = Graph()
    plain = graph.add_input("x", TensorType("float32", (1, 8, 8, 8)))
    w = graph.add_input("w", TensorType("float32", (16, 8, 1, 1)))
    first = graph.add_node("conv", [plain, w], conv_attributes(2), output_layouts=["NCHW8c"]).output
    w2 = graph.add_input("w2", TensorType("float32", (8, 16, 1, 1)))
    second = graph.add_node("conv", [first, w2], conv_attributes(2)).output
    graph.set_outputs({"y": second})
    graph.verify()
    assert first.type == TensorType("float32", (1, 16, 8, 8), "NCHW8c")
    assert second.type.layout == ""
    with pytest.raises(EdgeIRError, match="layout not supported"):
        graph.add_node("conv", [plain, w], conv_attributes(2), output_layouts=["NCHW8w"])
    blocked_w = graph.add_input("w3", TensorType("float32", (16, 8, 1, 1), "NCHW8c"))
    with pytest.raises(EdgeIRError, match="w must be plain"):
        graph.add_node("conv", [plain, blocked_w], conv_attributes(2))


def test_empty_batch() -> None:
    x, w = np.zeros((0, 2, 5, 5), np.float32), np.zeros((2, 2, 3, 3), np.float32)
    assert run("conv", [x, w], conv_attributes(2)).shape == (0, 2, 3, 3)
    assert run("conv_transpose", [x, w], {**conv_attributes(2), "output_padding": [0, 0]}).shape == (0, 2, 7, 7)
