"""Fake quantization: the reference evaluator's values, straight-through gradients, learned scales."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

from torch import Tensor  # noqa: E402

from edgeir.ir import Graph, TensorType, Value  # noqa: E402
from edgeir.ir.dtype import numpy_dtype  # noqa: E402
from edgeir.ir.evaluate import evaluate  # noqa: E402
from edgeir.training import GraphModule  # noqa: E402
from tests.training.op_graphs import arrays, tensors  # noqa: E402

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}


def number(value: object, dtype: str = "float32") -> np.ndarray:
    return np.asarray(value).astype(numpy_dtype(dtype))


def quantized(graph: Graph, x: Value, scale: np.ndarray, zero: np.ndarray) -> Value:
    """dequantize(quantize(x)) with one scale and one zero."""
    s, z = graph.add_constant(scale, "scale"), graph.add_constant(zero, "zero")
    return graph.add_node("dequantize", [graph.add_node("quantize", [x, s, z]).output, s, z]).output


def network(dtype: str, per_channel: bool) -> Graph:
    """Two layers with fake-quantized weights and activations; a transpose stands between quantize and dequantize."""
    rng = np.random.default_rng(3)
    graph = Graph("network")
    low, _ = RANGES[dtype]
    x = graph.add_input("x", TensorType("float32", (2, 3, 6, 6)))
    activation = "uint8" if dtype.startswith("u") else "int8"
    x = quantized(graph, x, number(0.03), number(7, activation))
    w = graph.add_constant(rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    scale = rng.uniform(0.01, 0.2, (4, 1, 1, 1) if per_channel else ()).astype(np.float32)
    zero = np.full(scale.shape, (low + RANGES[dtype][1] + 1) // 2)
    window = {"strides": [1, 1], "padding": [1, 1, 1, 1], "dilations": [1, 1]}
    y = graph.add_node("conv", [x, quantized(graph, w, scale, number(zero, dtype))], window).output
    y = quantized(graph, graph.add_node("relu", [y]).output, number(0.02), number(0, "uint8"))
    y = graph.add_node("max_pool", [y], {**window, "padding": [0] * 4, "kernel": [2, 2], "strides": [2, 2]}).output
    y = graph.add_node("reshape", [y], {"shape": [2, 36]}).output
    v = graph.add_constant(rng.standard_normal((10, 36)).astype(np.float32), "v")
    s = graph.add_constant(number(0.11), "matmul_scale")
    z = graph.add_constant(number(zero.reshape(-1)[0], dtype), "matmul_zero")
    q = graph.add_node("quantize", [v, s, z]).output
    moved = graph.add_node("transpose", [q], {"perm": [1, 0]}).output
    d = graph.add_node("dequantize", [moved, s, z]).output
    graph.set_outputs({"y": graph.add_node("matmul", [y, d]).output})
    graph.verify()
    return graph


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", RANGES)
def test_every_value_of_a_fake_quantized_network_is_the_references(dtype: str, per_channel: bool) -> None:
    """Quantized values are equal; one on a rounding boundary could differ by a step, which does not occur here."""
    graph = network(dtype, per_channel)
    inputs = {"x": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    expected: dict[str, np.ndarray] = {}
    outputs = evaluate(graph, inputs, lambda value, data: expected.__setitem__(value.name, data))
    got = GraphModule(graph).eval()(tensors(inputs), capture=list(expected))
    for name, wanted in expected.items():
        held = got[name].detach().numpy()
        if wanted.dtype.kind != "f":
            np.testing.assert_array_equal(held, wanted.astype(np.float32), err_msg=name)
        else:
            np.testing.assert_allclose(held, wanted, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(got["y"].detach().numpy(), outputs["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("shape", [(), (4, 1)])
def test_values_and_gradients_of_one_quantization(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.uniform(-6, 6, (4, 500)), np.arange(-20, 20)[None].repeat(4, 0) / 8], axis=1)
    scale = np.full(shape, 0.25, np.float32) * (1 + np.arange(4).reshape(4, 1) if shape else 1)
    low, high = RANGES[dtype]
    zero = np.full(shape, 3)
    graph = Graph("one")
    y = quantized(graph, graph.add_input("x", TensorType("float32", (4, 540))), number(scale), number(zero, dtype))
    graph.set_outputs({"y": y})
    tensor = torch.from_numpy(x.astype(np.float32)).requires_grad_()
    result = GraphModule(graph)(tensor)["y"]
    np.testing.assert_array_equal(result.detach().numpy(), evaluate(graph, {"x": x.astype(np.float32)})["y"])
    upstream = torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))
    (gradient,) = torch.autograd.grad(result, tensor, upstream)
    level = np.rint(x.astype(np.float32) / number(scale)) + zero
    inside = (level >= low) & (level <= high)
    assert inside.mean() > 0 and (dtype.endswith("8") or inside.mean() < 1)
    # Powers of two as scales divide and multiply exactly.
    exact = gradient.numpy() if not shape else gradient.numpy()[:2]
    np.testing.assert_array_equal(exact, np.where(inside, upstream.numpy(), 0)[: len(exact)])


@pytest.mark.parametrize("bits", [3, 4, 5, 8])
def test_logarithmic_values_and_gradients(bits: int) -> None:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((3, 400)) * np.exp2(rng.integers(-9, 9, (3, 400)))).astype(np.float32)
    x[:, :5] = 0
    scale = np.array([[0.5], [1], [2]], np.float32)
    graph = Graph("log")
    s = graph.add_constant(scale, "s")
    w = graph.add_constant(x, "w")
    codes = graph.add_node("log_quantize", [w, s], {"bits": bits}).output
    moved = graph.add_node("reshape", [codes], {"shape": [3, 20, 20]}).output
    s3 = graph.add_constant(scale[:, :, None], "s3")
    y = graph.add_node("log_dequantize", [moved, s3], {"bits": bits}).output
    graph.set_outputs({"y": y, "codes": codes})
    module = GraphModule(graph, trainable=lambda value: value.name == "w")
    expected, got = evaluate(graph, {}), module({})
    np.testing.assert_array_equal(got["y"].detach().numpy(), expected["y"])
    np.testing.assert_array_equal(arrays(got, graph)["codes"], expected["codes"])
    got["y"].sum().backward()
    gradient = module.weight("w").grad
    top = 2.0 ** ((1 << (bits - 2)) - 0.5)
    assert isinstance(gradient, Tensor)
    np.testing.assert_array_equal(gradient.numpy(), (np.abs(x) / scale < top).astype(np.float32))
    assert gradient.numpy()[:, :5].all()


def lsq(x: np.ndarray, scale: np.ndarray, low: int, high: int, factor: float) -> np.ndarray:
    """Esser et al. 2020, equation 3 with section 2.2, per channel (axis 0) where scale is."""
    ratio = x / scale
    slope = np.where(ratio <= low, low, np.where(ratio >= high, high, np.rint(ratio) - ratio))
    return slope.sum(axis=tuple(range(1, x.ndim)) if scale.size > 1 else None).reshape(scale.shape) * factor


@pytest.mark.parametrize("shape", [(), (4, 1)])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_learned_scales_have_the_gradient_of_lsq(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 60)) * 2
    low, high = RANGES[dtype]
    scale = rng.uniform(0.05, 0.2, shape) * (0.1 if dtype == "int8" else 1)
    graph = Graph("lsq")
    w = graph.add_constant(x.astype(np.float32), "w")
    graph.set_outputs({"y": quantized(graph, w, number(scale), number(np.zeros(shape), dtype))})
    module = GraphModule(graph, learned_scales=True, trainable=lambda value: value.name == "w").double()
    assert set(module.trained_values) == {"w", "scale"}
    module({})["y"].sum().backward()
    found = module.weight("scale").grad
    assert isinstance(found, Tensor)
    held = number(scale).astype(np.float64), x.astype(np.float32).astype(np.float64)
    count = x.size / max(1, np.size(scale))
    expected = lsq(held[1], held[0], low, high, (count * high) ** -0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_a_scale_of_activations_counts_the_elements_of_one_sample() -> None:
    graph = Graph("activation")
    x = graph.add_input("x", TensorType("float32", (5, 8)))
    graph.set_outputs({"y": quantized(graph, x, number(0.1), number(0, "int8"))})
    module = GraphModule(graph, learned_scales=True).double()
    data = np.random.default_rng(0).standard_normal((5, 8))
    module(torch.from_numpy(data))["y"].sum().backward()
    found = module.weight("scale").grad
    assert isinstance(found, Tensor)
    scale = np.float64(np.float32(0.1))
    np.testing.assert_allclose(float(found), lsq(data, np.array(scale), -128, 127, (8 * 127) ** -0.5), rtol=1e-6)


def test_a_scale_that_the_graph_has_twice_is_one_parameter() -> None:
    graph = Graph("twice")
    x = graph.add_input("x", TensorType("float32", (5, 8)))
    s, t, z = (graph.add_constant(number(v, d)) for v, d in ((0.1, "float32"), (0.1, "float32"), (0, "int8")))
    q = graph.add_node("quantize", [x, s, z]).output
    graph.set_outputs({"y": graph.add_node("dequantize", [q, t, z]).output})
    module = GraphModule(graph, learned_scales=True)
    assert [name for name, _ in module.named_parameters()] == [s.name]
    with torch.no_grad():
        module.weight(t.name).fill_(0.5)
    trained = module.to_graph()
    assert trained.value(s.name).data == trained.value(t.name).data == np.float32(0.5)


def test_a_learned_scale_stays_positive() -> None:
    graph = Graph("negative")
    x = graph.add_input("x", TensorType("float32", (5,)))
    graph.set_outputs({"y": quantized(graph, x, number(0.1), number(0, "int8"))})
    module = GraphModule(graph, learned_scales=True)
    with torch.no_grad():
        module.weight("scale").fill_(-1)
    result = module(torch.ones(5))["y"]
    assert (result.detach() > 0).all()
    result.sum().backward()
    assert module.to_graph().value("scale").data > 0


def test_scales_are_frozen_by_default() -> None:
    graph = network("int8", True)
    assert set(GraphModule(graph).trained_values) == {"w", "v"}


def test_training_moves_weights_and_leaves_the_graph_fake_quantized() -> None:
    graph = network("int4", True)
    module = GraphModule(graph, learned_scales=True)
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    data = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(data)["y"], torch.tensor([1, 4]))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    trained = module.to_graph()
    trained.verify()
    assert [node.op for node in trained.nodes] == [node.op for node in graph.nodes]
    assert (trained.value("w").data != graph.value("w").data).any()
    expected = evaluate(trained, {"x": data.numpy()})["y"]
    np.testing.assert_allclose(module.eval()(data)["y"].detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_quantized_value_that_integers_are_computed_with_becomes_integers() -> None:
    graph = Graph("mixed")
    x = graph.add_input("x", TensorType("float32", (1, 2, 4)))
    s, z = graph.add_constant(number(0.1)), graph.add_constant(number(3, "uint8"))
    q = graph.add_node("quantize", [x, s, z]).output
    w = graph.add_constant(np.random.default_rng(0).integers(-9, 9, (3, 2, 1)).astype(np.int8))
    window = {"strides": [1], "padding": [0, 0], "dilations": [1]}
    total = graph.add_node("conv_integer", [q, w, None, z], window).output
    table = graph.add_constant(np.arange(256, dtype=np.uint8)[::-1].copy())
    both = graph.add_node("concat", [q, graph.add_constant(np.ones((1, 1, 4), np.uint8))], {"axis": 1}).output
    looked = graph.add_node("lookup", [both, table]).output
    graph.set_outputs({"total": total, "looked": looked, "q": q, "both": both})
    data = {"x": np.random.default_rng(1).standard_normal((1, 2, 4)).astype(np.float32)}
    got = GraphModule(graph)(tensors(data))
    assert got["q"].dtype == got["both"].dtype == torch.uint8
    for name, expected in evaluate(graph, data).items():
        np.testing.assert_array_equal(got[name].numpy(), expected, err_msg=name)


def test_nan_is_seen_in_training_mode() -> None:
    graph = Graph("nan")
    x = graph.add_input("x", TensorType("float32", (2,)))
    graph.set_outputs({"y": quantized(graph, x, number(0.1), number(0, "int8"))})
    module = GraphModule(graph)
    data = torch.tensor([1.0, float("nan")])
    assert module.train()(data)["y"].isnan().tolist() == [False, True]
    np.testing.assert_array_equal(module.eval()(data)["y"].numpy(), evaluate(graph, {"x": data.numpy()})["y"])
