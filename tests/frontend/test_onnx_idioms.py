"""What exporters write, against onnxruntime: forms that differ between opsets, auto_pad, optional operands."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.frontend import from_model
from edgeir.ir.evaluate import evaluate
from tests.frontend.onnx_text_models import check, operators, parse

# name: (opset, signature, body, initializers in text)
CASES: dict[str, tuple[int, str, str, str]] = {
    # Attributes that became inputs, and changed meanings
    "softmax flattens before opset 13": (11, "(float[2,3,4] x) => (float[2,3,4] y)", "y = Softmax<axis=1>(x)", ""),
    "log softmax default axis": (11, "(float[2,3,4] x) => (float[2,3,4] y)", "y = LogSoftmax(x)", ""),
    "softmax 13": (13, "(float[2,3,4] x) => (float[2,3,4] y)", "y = Softmax<axis=1>(x)", ""),
    "hardmax flattens": (11, "(float[2,3,4] x) => (float[2,3,4] y)", "y = Hardmax<axis=1>(x)", ""),
    "hardmax 13": (13, "(float[2,3,4] x) => (float[2,3,4] y)", "y = Hardmax<axis=1>(x)", ""),
    "slice by attributes": (
        9,
        "(float[5,6] x) => (float[2,3] y)",
        "y = Slice<axes=[0,1], starts=[1,-4], ends=[3,-1]>(x)",
        "",
    ),
    "slice by inputs, backwards": (
        13,
        "(float[5,6] x) => (float[5,3] y)",
        "y = Slice(x, s, e, a, t)",
        "int64[1] s = {-1}, int64[1] e = {-9223372036854775808}, int64[1] a = {1}, int64[1] t = {-2}",
    ),
    "slice beyond the end": (
        13,
        "(float[5,6] x) => (float[3,6] y)",
        "y = Slice(x, s, e)",
        "int64[1] s = {2}, int64[1] e = {100}",
    ),
    "clip by attributes": (6 + 1, "(float[9] x) => (float[9] y)", "y = Clip<min=-0.5, max=0.5>(x)", ""),
    "clip without minimum": (13, "(float[9] x) => (float[9] y)", 'y = Clip(x, "", m)', "float m = {0.5}"),
    "pad by attributes": (10, "(float[2,3] x) => (float[4,6] y)", "y = Pad<pads=[1,1,1,2], value=2.5>(x)", ""),
    "pad crops": (
        13,
        "(float[2,5] x) => (float[3,3] y)",
        "y = Pad(x, p, v)",
        "int64[4] p = {1,-1,0,-1}, float v = {7.0}",
    ),
    "pad reflects": (
        13,
        "(float[2,5] x) => (float[2,9] y)",
        'y = Pad<mode="reflect">(x, p)',
        "int64[4] p = {0,2,0,2}",
    ),
    "pad some axes": (
        18,
        "(float[2,5] x) => (float[2,8] y)",
        'y = Pad(x, p, "", a)',
        "int64[2] p = {1,2}, int64[1] a = {-1}",
    ),
    "squeeze by attribute": (11, "(float[1,3,1] x) => (float[3,1] y)", "y = Squeeze<axes=[0]>(x)", ""),
    "squeeze everything": (13, "(float[1,3,1] x) => (float[3] y)", "y = Squeeze(x)", ""),
    "unsqueeze by attribute": (11, "(float[3] x) => (float[1,3,1] y)", "y = Unsqueeze<axes=[0,2]>(x)", ""),
    "unsqueeze by input": (13, "(float[3] x) => (float[1,3,1] y)", "y = Unsqueeze(x, a)", "int64[2] a = {-1,0}"),
    "split by attribute": (
        11,
        "(float[6,2] x) => (float[2,2] y, float[4,2] z)",
        "y, z = Split<axis=0, split=[2,4]>(x)",
        "",
    ),
    "split evenly": (13, "(float[6,2] x) => (float[3,2] y, float[3,2] z)", "y, z = Split(x)", ""),
    "split by number": (
        18,
        "(float[5,2] x) => (float[2,2] a, float[2,2] b, float[1,2] c)",
        "a, b, c = Split<num_outputs=3>(x)",
        "",
    ),
    "reduce by attribute": (11, "(float[2,3,4] x) => (float[2,4] y)", "y = ReduceSum<axes=[-2], keepdims=0>(x)", ""),
    "reduce by input": (13, "(float[2,3,4] x) => (float[2,1,4] y)", "y = ReduceSum(x, a)", "int64[1] a = {1}"),
    "reduce nothing": (
        13,
        "(float[2,3] x) => (float[2,3] y)",
        "y = ReduceSum<noop_with_empty_axes=1>(x)",
        "",
    ),
    "reduce everything": (18, "(float[2,3] x) => (float y)", "y = ReduceMean<keepdims=0>(x)", ""),
    "log sum exp does not overflow": (
        18,
        "(float[2,3] x) => (float[2] y)",
        "b = Mul(x, k) y = ReduceLogSumExp<keepdims=0>(b, a)",
        "float k = {1000.0}, int64[1] a = {1}",
    ),
    "top k by attribute": (9, "(float[2,6] x) => (float[2,3] y, int64[2,3] i)", "y, i = TopK<k=3>(x)", ""),
    "top k by input": (
        11,
        "(float[2,6] x) => (float[2,3] y, int64[2,3] i)",
        "y, i = TopK<largest=0>(x, k)",
        "int64[1] k = {3}",
    ),
    "upsample by attribute": (
        7,
        "(float[1,2,3,3] x) => (float[1,2,6,6] y)",
        "y = Upsample<scales=[1.0,1.0,2.0,2.0]>(x)",
        "",
    ),
    "upsample by input": (
        9,
        "(float[1,2,3,3] x) => (float[1,2,6,9] y)",
        'y = Upsample<mode="linear">(x, s)',
        "float[4] s = {1.0,1.0,2.0,3.0}",
    ),
    "resize 10": (
        10,
        "(float[1,2,3,3] x) => (float[1,2,6,6] y)",
        "y = Resize(x, s)",
        "float[4] s = {1.0,1.0,2.0,2.0}",
    ),
    "resize to sizes, empty scales": (
        11,
        "(float[1,2,4,4] x) => (float[1,2,6,7] y)",
        'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, r, e, s)',
        "float[0] r = {}, float[0] e = {}, int64[4] s = {1,2,6,7}",
    ),
    "resize some axes": (
        18,
        "(float[1,2,4,4] x) => (float[1,2,6,7] y)",
        'y = Resize<mode="linear", axes=[2,3]>(x, "", "", s)',
        "int64[2] s = {6,7}",
    ),
    "dropout in inference": (12, "(float[4] x) => (float[4] y, bool[4] m)", "y, m = Dropout(x)", ""),
    "batch norm": (
        9,
        "(float[2,3,4] x) => (float[2,3,4] y)",
        "y = BatchNormalization<epsilon=0.001>(x, s, b, m, v)",
        "float[3] s = {1.0,2.0,3.0}, float[3] b = {0.5,0.0,1.0},"
        " float[3] m = {0.1,0.2,0.3}, float[3] v = {1.0,0.5,2.0}",
    ),
    "cum sum": (
        11,
        "(float[2,5] x) => (float[2,5] y)",
        "y = CumSum<exclusive=1, reverse=1>(x, a)",
        "int64 a = {1}",
    ),
    # auto_pad and ceil_mode
    "conv same upper": (
        13,
        "(float[1,1,5,6] x) => (float[1,1,3,3] y)",
        'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)',
        "float[1,1,2,3] w = {1.0,2.0,3.0,4.0,5.0,6.0}",
    ),
    "conv same lower": (
        13,
        "(float[1,1,5,6] x) => (float[1,1,3,3] y)",
        'y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)',
        "float[1,1,2,3] w = {1.0,2.0,3.0,4.0,5.0,6.0}",
    ),
    "conv valid": (
        13,
        "(float[1,1,5,6] x) => (float[1,1,4,4] y)",
        'y = Conv<auto_pad="VALID">(x, w)',
        "float[1,1,2,3] w = {1.0,2.0,3.0,4.0,5.0,6.0}",
    ),
    "max pool rounds up": (
        12,
        "(float[1,2,6,6] x) => (float[1,2,3,3] y)",
        "y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
        "",
    ),
    "average pool counts padding": (
        11,
        "(float[1,2,5,5] x) => (float[1,2,3,3] y)",
        "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(x)",
        "",
    ),
    "average pool same": (
        11,
        "(float[1,2,5,5] x) => (float[1,2,3,3] y)",
        'y = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_UPPER">(x)',
        "",
    ),
    "lp pool": (11, "(float[1,2,5,5] x) => (float[1,2,4,4] y)", "y = LpPool<kernel_shape=[2,2], p=3>(x)", ""),
    "conv transpose to a shape": (
        11,
        "(float[1,1,3,3] x) => (float[1,1,6,6] y)",
        "y = ConvTranspose<strides=[2,2], output_shape=[6,6]>(x, w)",
        "float[1,1,3,3] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0}",
    ),
    "conv transpose same": (
        11,
        "(float[1,1,3,3] x) => (float[1,1,6,6] y)",
        'y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)',
        "float[1,1,3,3] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0}",
    ),
    # Products
    "gemm": (
        11,
        "(float[4,2] x) => (float[2,3] y)",
        "y = Gemm<alpha=0.5, beta=2.0, transA=1, transB=1>(x, w, c)",
        "float[3,4] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0,3.0}, float[3] c = {1.0,2.0,3.0}",
    ),
    "gemm without bias": (11, "(float[4,2] x, float[2,4] z) => (float[4,4] y)", "y = Gemm(x, z)", ""),
    "matmul of vectors": (13, "(float[3] a, float[3] b) => (float y)", "y = MatMul(a, b)", ""),
    "matmul of matrix and vector": (13, "(float[2,4,3] a, float[3] b) => (float[2,4] y)", "y = MatMul(a, b)", ""),
    # Normalisation and activations
    "lrn": (13, "(float[2,5,3,3] x) => (float[2,5,3,3] y)", "y = LRN<size=3, alpha=0.01, beta=0.6, bias=2.0>(x)", ""),
    "instance norm": (
        13,
        "(float[2,2,3,3] x) => (float[2,2,3,3] y)",
        "y = InstanceNormalization(x, s, b)",
        "float[2] s = {1.0,2.0}, float[2] b = {0.5,1.0}",
    ),
    "layer norm with statistics": (
        17,
        "(float[2,3,4] x) => (float[2,3,4] y, float[2,3,1] m, float[2,3,1] i)",
        "y, m, i = LayerNormalization(x, s)",
        "float[4] s = {1.0,2.0,3.0,4.0}",
    ),
    "prelu per channel": (
        9,
        "(float[2,3,4] x) => (float[2,3,4] y)",
        "y = PRelu(x, s)",
        "float[3,1] s = {0.1,0.2,0.3}",
    ),
    "activations": (
        20,
        "(float[17] x) => (float[17] a, float[17] b, float[17] c, float[17] d, float[17] e, float[17] f, float[17] g)",
        'a = Elu<alpha=0.5>(x) b = Selu(x) c = HardSigmoid(x) d = Softplus(x) e = Gelu<approximate="tanh">(x)'
        " f = Mish(x) g = HardSwish(x)",
        "",
    ),
    "one hot": (
        11,
        "(int64[4] x) => (float[4,3] y)",
        "y = OneHot(x, d, v)",
        "int64 d = {3}, float[2] v = {-1.0, 1.0}",
    ),
    "reverse sequence": (
        10,
        "(float[4,2,3] x) => (float[4,2,3] y)",
        "y = ReverseSequence(x, n)",
        "int64[2] n = {3, 4}",
    ),
    "depth to space": (
        13,
        "(float[1,8,2,3] x) => (float[1,2,4,6] y)",
        'y = DepthToSpace<blocksize=2, mode="CRD">(x)',
        "",
    ),
    "space to depth": (13, "(float[1,2,4,6] x) => (float[1,8,2,3] y)", "y = SpaceToDepth<blocksize=2>(x)", ""),
    "mean of several": (13, "(float[3] a, float[2,3] b, float[1] c) => (float[2,3] y)", "y = Mean(a, b, c)", ""),
    "range": (
        11,
        "(float[4] x) => (float[4] y)",
        "r = Range(a, b, c) y = Add(x, r)",
        "float a = {1.0}, float b = {3.0}, float c = {0.5}",
    ),
    "transposed nhwc input": (
        13,
        "(float[1,5,5,2] x) => (float[1,3,3,1] y)",
        "t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, w) y = Transpose<perm=[0,2,3,1]>(c)",
        "float[1,2,3,3] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0}",
    ),
    "weights of constant nodes": (
        13,
        "(float[2,2] x) => (float[2,2] y)",
        "w = Constant<value = float[2,2] {1.0,2.0,3.0,4.0}>() y = MatMul(x, w)",
        "",
    ),
    # Quantization
    "quantize per axis and back": (
        13,
        "(float[2,3] x) => (float[2,3] y)",
        "q = QuantizeLinear<axis=1>(x, s, z) y = DequantizeLinear<axis=1>(q, s, z)",
        "float[3] s = {0.1,0.2,0.5}, int8[3] z = {1,-2,3}",
    ),
    "dynamic quantization": (
        11,
        "(float[6] x) => (uint8[6] y, float s, uint8 z)",
        "y, s, z = DynamicQuantizeLinear(x)",
        "",
    ),
    "matmul of integers": (
        10,
        "(uint8[2,3] x, int8[3,2] w) => (int32[2,2] y)",
        "y = MatMulInteger(x, w, z)",
        "uint8 z = {1}",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_against_onnxruntime(name: str) -> None:
    opset, signature, body, weights = CASES[name]
    check(parse(signature, body, opset, weights))


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(operator: str, layout: int) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(2, gates * 4, 3)).astype(np.float32),
        "r": rng.normal(size=(2, gates * 4, 4)).astype(np.float32),
        "b": rng.normal(size=(2, gates * 8)).astype(np.float32),
    }
    shapes = ("float[5,2,3] x", "float[5,2,2,4] y, float[2,2,4] h")
    body = f'y, h = {operator}<hidden_size=4, direction="bidirectional">(x, w, r, b)'
    model = parse(f"({shapes[0]}) => ({shapes[1]})", body, 14, weight_arrays=weights)
    graph = check(model)
    assert operator.lower() in operators(graph)
    if layout == 1:
        # onnxruntime has no batch-first form: the same numbers with axes exchanged are the reference.
        signature = "(float[2,5,3] x) => (float[2,5,2,4] y, float[2,2,4] h)"
        first = from_model(parse(signature, body.replace("<", "<layout=1, "), 14, weight_arrays=weights))
        x = rng.normal(size=(5, 2, 3)).astype(np.float32)
        expected = evaluate(graph, {"x": x})
        found = evaluate(first, {"x": x.transpose(1, 0, 2)})
        np.testing.assert_allclose(found["y"], expected["y"].transpose(2, 0, 1, 3), rtol=1e-6)
        np.testing.assert_allclose(found["h"], expected["h"].transpose(1, 0, 2), rtol=1e-6)


def test_conv_weights_and_bias_are_operands_of_one_node() -> None:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "b": np.arange(4, dtype=np.float32)}
    graph = check(parse("(float[1,3,8,8] x) => (float[1,4,6,6] y)", "y = Conv(x, w, b)", 13, weight_arrays=weights))
    assert operators(graph) == ["conv"]
    assert [value.name for value in graph.constants] == ["w", "b"]


def test_names_and_locations_are_the_models() -> None:
    model = parse("(float[2] x) => (float[2] y)", "h = Relu(x) y = Exp(h)", 13)
    model.graph.node[0].name = "first"
    graph = check(model)
    assert [(node.op, node.output.name, node.location) for node in graph.nodes] == [
        ("relu", "h", "first"),
        ("exp", "y", "Exp:y"),
    ]
