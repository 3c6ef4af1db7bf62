"""GraphModule: names, masks, captured values, symbolic sizes, errors, and the way back to a graph."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

from torch import Tensor  # noqa: E402

from edgeir.errors import EdgeIRError  # noqa: E402
from edgeir.ir import Graph, TensorType, parse_graph, symbol  # noqa: E402
from edgeir.ir.dtype import numpy_dtype  # noqa: E402
from edgeir.ir.evaluate import evaluate  # noqa: E402
from edgeir.ir.storage import large_constants  # noqa: E402
from edgeir.passes.pipelines import default_pipeline  # noqa: E402
from edgeir.passmanager import PassContext  # noqa: E402
from edgeir.training import GraphModule, update_from  # noqa: E402
from edgeir.training.parameter_names import parameter_name, value_name  # noqa: E402
from edgeir.training.tensor_conversion import to_tensor  # noqa: E402


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network() -> Graph:
    """conv, batch_norm, clip, mean, matmul, bias, with a symbolic batch and names that torch forbids."""
    graph = Graph("network")
    x = graph.add_input("x", TensorType("float32", (symbol("N"), 3, 8, 8)))
    w, b = graph.add_constant(normal(4, 3, 3, 3), "conv.weight"), graph.add_constant(normal(4), "forward")
    window = {"strides": [2, 2], "padding": [1, 1, 1, 1], "dilations": [1, 1]}
    y = graph.add_node("conv", [x, w, b], window, names=["/conv/out.0"]).output
    names = ("bn.scale", "bn.bias", "bn.mean", "bn.variance")
    norm = [graph.add_constant(np.abs(normal(4, seed=i)) + 0.1, name) for i, name in enumerate(names)]
    y = graph.add_node("batch_norm", [y, *norm], {"epsilon": 1e-5}, names=["normed"]).output
    y = graph.add_node("clip", [y], {"minimum": 0.0, "maximum": 6.0}).output
    y = graph.add_node("mul", [y, graph.add_constant(np.array(0.5, np.float32), "half")]).output
    y = graph.add_node("reduce_mean", [y], {"axes": [2, 3], "keepdims": False}).output
    y = graph.add_node("matmul", [y, graph.add_constant(normal(4, 5), "fc%w")]).output
    y = graph.add_node("add", [y, graph.add_constant(normal(5), "偏置")], names=["logits"]).output
    graph.set_outputs({"out": y, "label": graph.add_node("arg_max", [y], {"axis": 1}).output})
    graph.verify()
    return graph


def test_parameters_are_named_after_values_and_the_names_go_back() -> None:
    module = GraphModule(network())
    names = [name for name, _ in module.named_parameters()]
    trained = ("conv.weight", "forward", "bn.scale", "bn.bias", "fc%w", "偏置")
    assert module.trained_values == trained == tuple(map(module.value_name, names))
    assert not any("." in name for name in names)
    assert (module.input_names, module.output_names) == (("x",), ("out", "label"))
    for name in (*trained, "a%2Eb", "%", "ü.x", "%%.", "训练"):
        for taken in (False, True):
            assert value_name(parameter_name(name, lambda _, taken=taken: taken)) == name


@pytest.mark.parametrize("batch", [1, 3])
def test_sizes_come_from_the_inputs(batch: int) -> None:
    graph, x = network(), normal(batch, 3, 8, 8)
    got = GraphModule(graph)(torch.from_numpy(x))
    expected = evaluate(graph, {"x": x})
    np.testing.assert_allclose(got["out"].detach().numpy(), expected["out"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got["label"].numpy(), expected["label"])


def test_values_are_captured_by_name() -> None:
    graph, x = network(), normal(2, 3, 8, 8)
    values: dict[str, np.ndarray] = {}
    evaluate(graph, {"x": x}, lambda value, array: values.__setitem__(value.name, array))
    got = GraphModule(graph)([torch.from_numpy(x)], capture=["normed", "/conv/out.0", "x", "fc%w"])
    assert list(got) == ["out", "label", "normed", "/conv/out.0", "x", "fc%w"]
    np.testing.assert_allclose(got["normed"].detach().numpy(), values["normed"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got["x"].numpy(), x)
    with pytest.raises(EdgeIRError, match="no value of this name"):
        GraphModule(graph)(torch.from_numpy(x), capture=["nothing"])


def test_a_captured_value_must_not_hide_an_output() -> None:
    graph = Graph("clash")
    x = graph.add_input("x", TensorType("float32", (2,)))
    graph.set_outputs({"x": graph.add_node("relu", [x]).output})
    with pytest.raises(EdgeIRError, match="name of an output"):
        GraphModule(graph)(torch.ones(2), capture=["x"])


def test_the_graph_comes_back_equal() -> None:
    graph = network()
    module = GraphModule(graph)
    back = module.to_graph()
    back.verify()
    assert str(back) == str(graph)
    assert str(parse_graph(str(back), large_constants(back))) == str(graph)
    assert [v.name for v in back.constants] == [v.name for v in graph.constants]


def test_trained_weights_come_back() -> None:
    graph = network()
    module = GraphModule(graph)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.from_numpy(normal(4, 3, 8, 8)))["out"].square().sum().backward()
    optimizer.step()
    back, old = module.to_graph(), str(graph)
    x = normal(2, 3, 8, 8, seed=9)
    with torch.no_grad():
        got = module(torch.from_numpy(x))["out"].numpy()
    np.testing.assert_allclose(evaluate(back, {"x": x})["out"], got, rtol=1e-4, atol=1e-4)
    changed = {v.name for v in back.constants if (v.data != graph.value(v.name).data).any()}
    assert changed == set(module.trained_values)
    assert str(graph) == old
    update_from(graph, module)
    graph.verify()
    assert {v.name: v.digest for v in graph.constants} == {v.name: v.digest for v in back.constants}
    assert [str(node) for node in graph.nodes] == [str(node) for node in back.nodes]


def test_update_from_refuses_another_graph_and_leaves_it_alone() -> None:
    other = Graph("other")
    other.set_outputs({"y": other.add_constant(normal(3), "forward")})
    before = str(other)
    with pytest.raises(EdgeIRError):
        update_from(other, GraphModule(network()))
    assert str(other) == before


def test_masks_hold_in_forward_gradients_and_graph() -> None:
    module = GraphModule(network())
    keep = normal(4, 3, 3, 3, seed=4) > 0
    module.set_mask("conv.weight", keep)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        module(torch.from_numpy(normal(2, 3, 8, 8, seed=step)))["out"].sum().backward()
        gradient = module.weight("conv.weight").grad
        assert isinstance(gradient, Tensor)
        assert not gradient.numpy()[~keep].any() and gradient.numpy()[keep].any()
        optimizer.step()
    with torch.no_grad():
        # What an optimizer does to pruned elements has no effect.
        module.weight("conv.weight").add_(1)
    weight = module.to_graph().value("conv.weight").data
    assert not weight[~keep].any() and weight[keep].all()
    x = normal(2, 3, 8, 8)
    expected = evaluate(module.to_graph(), {"x": x})["out"]
    np.testing.assert_allclose(module(torch.from_numpy(x))["out"].detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(module.masks["conv.weight"].numpy(), keep)
    module.set_mask("conv.weight", None)
    assert module.masks == {}
    with pytest.raises(EdgeIRError, match="wrong shape"):
        module.set_mask("conv.weight", keep[0])
    with pytest.raises(EdgeIRError, match="only a parameter"):
        module.set_mask("bn.mean", keep)


def test_zeros_that_pruning_left_become_masks() -> None:
    graph = network()
    weight = graph.value("fc%w").data.copy()
    weight[::2] = 0
    module = GraphModule(graph)
    with torch.no_grad():
        module.weight("fc%w").copy_(torch.from_numpy(weight))
    assert module.mask_zeros() == ("fc%w",)
    np.testing.assert_array_equal(module.masks["fc%w"].numpy(), weight != 0)


def test_a_saved_state_brings_weights_masks_and_statistics_back() -> None:
    first = GraphModule(network(), batch_statistics=True)
    first.set_mask("fc%w", normal(4, 5) > 0)
    first(torch.from_numpy(normal(4, 3, 8, 8)))
    state = first.state_dict()
    second = GraphModule(network(), batch_statistics=True)
    second.set_mask("conv.weight", np.ones((4, 3, 3, 3)))
    second.load_state_dict(state)
    assert list(second.masks) == ["fc%w"]
    assert str(second.to_graph()) == str(first.to_graph()) != str(network())


def test_a_copy_is_independent() -> None:
    first = GraphModule(network()).double().eval()
    first.set_mask("fc%w", normal(4, 5) > 0)
    first.weight("forward").requires_grad_(False)
    second = copy.deepcopy(first)
    with torch.no_grad():
        first.weight("forward").add_(1)
    assert not torch.equal(first.weight("forward"), second.weight("forward"))
    assert torch.equal(first.weight("fc%w"), second.weight("fc%w"))
    assert list(second.masks) == ["fc%w"] and not second.training
    assert second.weight("forward").dtype == torch.float64 and not second.weight("forward").requires_grad


def test_batch_statistics_are_those_of_torch() -> None:
    graph = network()
    module = GraphModule(graph, batch_statistics=True, momentum=0.3)
    layer = torch.nn.BatchNorm2d(4, eps=1e-5, momentum=0.3)
    with torch.no_grad():
        for ours, theirs in zip(
            ("bn.scale", "bn.bias", "bn.mean", "bn.variance"),
            (layer.weight, layer.bias, layer.running_mean, layer.running_var),
            strict=True,
        ):
            assert theirs is not None
            theirs.copy_(torch.from_numpy(graph.value(ours).data.copy()))
    for step in range(3):
        got = module(torch.from_numpy(normal(4, 3, 8, 8, seed=step)), capture=["/conv/out.0", "normed"])
        torch.testing.assert_close(got["normed"], layer(got["/conv/out.0"]))
    back = module.to_graph()
    for name, expected in (("bn.mean", layer.running_mean), ("bn.variance", layer.running_var)):
        assert expected is not None
        np.testing.assert_allclose(back.value(name).data, expected.numpy(), rtol=1e-6)
    frozen = GraphModule(graph)
    frozen.train()(torch.from_numpy(normal(4, 3, 8, 8)))
    assert (frozen.to_graph().value("bn.mean").data == graph.value("bn.mean").data).all()
    module.eval()(torch.from_numpy(normal(4, 3, 8, 8)))
    np.testing.assert_array_equal(module.to_graph().value("bn.mean").data, back.value("bn.mean").data)


def test_layers_that_share_statistics_get_their_own() -> None:
    graph = Graph("shared")
    y = graph.add_input("x", TensorType("float32", (6, 2)))
    zeros, ones = graph.add_constant(np.zeros(2, np.float32), "zeros"), graph.add_constant(np.ones(2, np.float32))
    scales = [graph.add_constant(np.full(2, 2.0, np.float32)) for _ in range(2)]
    biases = [graph.add_constant(np.full(2, 3.0, np.float32)) for _ in range(2)]
    for scale, bias in zip(scales, biases, strict=True):
        y = graph.add_node("batch_norm", [y, scale, bias, zeros, ones], {"epsilon": 1e-5}).output
    graph.set_outputs({"y": y})
    module = GraphModule(graph, batch_statistics=True)
    module(torch.from_numpy(normal(6, 2)))
    trained = module.to_graph()
    trained.verify()
    first, second = (node.input(3).data for node in trained.nodes)
    assert (first != second).all()
    np.testing.assert_allclose(second, 0.1 * 3, rtol=1e-5)


def test_inputs_that_do_not_fit_are_refused() -> None:
    module, x = GraphModule(network()), torch.ones(2, 3, 8, 8)
    for inputs, message in (
        ({"y": x}, "no such input"),
        ({}, "an input is missing"),
        ([x, x], "wrong number of inputs"),
        (x[0], "input does not fit"),
        (x.int(), "input does not fit"),
        (x[:, :2], "shapes do not fit"),
    ):
        with pytest.raises(EdgeIRError, match=message):
            module(inputs)
    # Floats of another width are converted.
    assert module(x.double())["out"].dtype == torch.float32


def test_backward_through_an_operator_without_gradient_names_the_node() -> None:
    graph = network()
    label = graph.outputs[1]
    cast = graph.add_node("cast", [label], {"dtype": "float32"}).output
    graph.set_outputs({"out": graph.outputs[0], "loss": graph.add_node("exp", [cast]).output})
    module = GraphModule(graph)
    result = module(torch.ones(2, 3, 8, 8))["loss"]
    with pytest.raises(EdgeIRError, match=r"no gradient passes through arg_max[\s\S]*%arg_max = arg_max\(%logits\)"):
        result.sum().backward()
    module.check_gradients(["out", "normed"])
    for name in ("loss", "arg_max"):
        with pytest.raises(EdgeIRError, match="arg_max has no gradient"):
            module.check_gradients([name])
    with pytest.raises(EdgeIRError, match="depends on no parameter"):
        module.check_gradients(["x"])


def test_a_constant_that_no_gradient_can_reach_is_refused() -> None:
    graph = Graph("dead")
    x = graph.add_input("x", TensorType("float32", (2, 3)))
    limit = graph.add_constant(normal(3), "limit")
    graph.set_outputs({"y": graph.add_node("where", [graph.add_node("less", [x, limit]).output, x, x]).output})
    assert GraphModule(graph).trained_values == ()
    with pytest.raises(EdgeIRError, match=r"no gradient reaches[\s\S]*less\(%x, %limit\)"):
        GraphModule(graph, trainable=lambda value: value.name == "limit")
    index = graph.add_constant(np.array([1]), "index")
    graph.set_outputs({"y": graph.add_node("gather", [x, index], {"axis": 0}).output})
    with pytest.raises(EdgeIRError, match="only floating constants"):
        GraphModule(graph, trainable=lambda value: value.name == "index")


def test_masks_of_attention_scalars_and_the_normalisation_of_inputs_are_not_trained() -> None:
    graph = Graph("attention")
    x = graph.add_input("x", TensorType("float32", (3, 3)))
    x = graph.add_node("add", [x, graph.add_constant(normal(3), "minus_mean")]).output
    x = graph.add_node("mul", [graph.add_constant(normal(3), "over_deviation"), x]).output
    x = graph.add_node("matmul", [x, graph.add_constant(normal(3, 3), "v")]).output
    mask = graph.add_constant(np.triu(np.full((3, 3), -1e9, np.float32), 1), "mask")
    position = graph.add_constant(normal(3, 3), "position")
    y = graph.add_node("add", [graph.add_node("add", [x, mask]).output, position]).output
    y = graph.add_node("mul", [y, graph.add_constant(np.array([0.125], np.float32), "scale")]).output
    w = graph.add_node("transpose", [graph.add_constant(normal(4, 3), "w")], {"perm": [1, 0]}).output
    graph.set_outputs({"y": graph.add_node("matmul", [y, w]).output})
    assert GraphModule(graph).trained_values == ("v", "position", "w")


def test_a_fused_graph_runs_its_bodies() -> None:
    graph = network().bind({"N": 2})
    default_pipeline().run(graph, PassContext())
    assert {node.op for node in graph.nodes} == {"fused"}
    module, x = GraphModule(graph), normal(2, 3, 8, 8)
    got, expected = module(torch.from_numpy(x)), evaluate(graph, {"x": x})
    np.testing.assert_allclose(got["out"].detach().numpy(), expected["out"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got["label"].numpy(), expected["label"])
    got["out"].sum().backward()
    assert len(module.trained_values) == 4 and all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32_as_the_reference_does(dtype: str) -> None:
    graph = Graph("half")
    w = normal(64, 3).astype(numpy_dtype(dtype))
    x = graph.add_input("x", TensorType(dtype, (4, 64)))
    y = graph.add_node("matmul", [x, graph.add_constant(w, "w")]).output
    graph.set_outputs({"y": graph.add_node("softmax", [y], {"axis": 1}).output})
    module, given = GraphModule(graph), normal(4, 64, seed=1).astype(numpy_dtype(dtype))
    got = module(to_tensor(given))["y"]
    expected = evaluate(graph, {"x": given})["y"].astype(np.float32)
    np.testing.assert_allclose(got.detach().float().numpy(), expected, rtol=1e-2 if dtype == "bfloat16" else 1e-3)
    got.float().square().sum().backward()
    assert module.weight("w").grad is not None
    assert str(module.to_graph()) == str(graph)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_same() -> None:
    graph, x = network(), normal(2, 3, 8, 8)
    module = GraphModule(graph).cuda()
    got = module(torch.from_numpy(x).cuda())["out"]
    got.sum().backward()
    np.testing.assert_allclose(got.detach().cpu().numpy(), evaluate(graph, {"x": x})["out"], rtol=1e-3, atol=1e-3)
    assert str(module.to_graph()) == str(graph)
