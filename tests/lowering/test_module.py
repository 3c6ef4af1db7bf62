"""Whole graphs: views, outputs that alias, blocked layouts, shared kernels, exported libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.ir import Graph, TensorType, symbol
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import Lowered, build, export
from edgeir.lowering.layouts import to_logical, to_physical
from edgeir.lowering.run import Runner, virtual_machine
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.targets import host
from tests.lowering.plain_schedule import plain

CONV = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}


def check(graph: Graph, seed: int = 0, templates: bool = False) -> Lowered:
    """Compiles and runs; every output agrees with the reference evaluation, whatever the caller did to the last one."""
    rng = np.random.default_rng(seed)
    inputs = {v.name: rng.standard_normal(v.type.static_shape).astype(v.type.dtype) for v in graph.inputs}
    expected = evaluate(graph, inputs)
    lowered = build(graph, host(), 1, None if templates else plain)
    runner = Runner(graph, lowered)
    for _ in range(2):
        got = runner(inputs)
        assert list(got) == list(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4)
    return lowered


def test_views_cost_no_kernel() -> None:
    graph = Graph("views")
    x = graph.add_input("x", TensorType("float32", (2, 3)))
    flat = graph.add_node("reshape", [x], {"shape": (6,)}).output
    y = graph.add_node("neg", [flat]).output
    graph.set_outputs([("y", graph.add_node("reshape", [y], {"shape": (3, 2)}).output)])
    assert check(graph).calls == ("neg",)


def test_outputs_may_be_inputs_constants_views_and_twice_the_same() -> None:
    graph = Graph("aliases")
    x = graph.add_input("x", TensorType("float32", (2, 3)))
    c = graph.add_constant(np.arange(4, dtype=np.float32), "c")
    view = graph.add_node("reshape", [x], {"shape": (6,)}).output
    y = graph.add_node("exp", [x]).output
    again = graph.add_node("reshape", [y], {"shape": (3, 2)}).output
    graph.set_outputs([("a", x), ("b", c), ("c", view), ("d", y), ("e", y), ("f", again)])
    check(graph)
    # No two results may share memory with each other, the input, or the constants of the library.
    runner = Runner(graph, build(graph, host(), 1, plain))
    argument = tvm.runtime.tensor(np.zeros((2, 3), np.float32))
    results = [np.from_dlpack(t) for t in (*runner._main(argument), argument)]
    assert len({r.__array_interface__["data"][0] for r in results}) == len(results)


def test_a_graph_without_inputs_and_one_with_several_results() -> None:
    graph = Graph("constant")
    position = graph.add_node("iota", [], {"size": 6, "dtype": "float32"}).output
    split = graph.add_node("top_k", [position], {"k": 2, "axis": 0})
    graph.set_outputs([("values", split.outputs[0]), ("positions", split.outputs[1])])
    check(graph)


def test_equal_computations_share_a_kernel_with_different_constants() -> None:
    graph = Graph("shared")
    value = graph.add_input("x", TensorType("float32", (4, 4)))
    for index in range(3):
        w = graph.add_constant(np.full((4, 4), 0.5 + index, np.float32), f"w{index}")
        value = graph.add_node("matmul", [value, w]).output
    graph.set_outputs([("y", value)])
    lowered = check(graph)
    assert len(lowered.kernels) == 1
    assert lowered.calls == ("matmul",) * 3
    assert lowered.constant_bytes == 3 * 64


def test_scalar_constants_distinguish_kernels() -> None:
    graph = Graph("scalars")
    x = graph.add_input("x", TensorType("float32", (4,)))
    two = graph.add_node("add", [x, graph.add_constant(np.array(2, np.float32), "two")]).output
    three = graph.add_node("add", [x, graph.add_constant(np.array(3, np.float32), "three")]).output
    graph.set_outputs([("y", two), ("z", three)])
    assert len(check(graph).kernels) == 2


def test_memory_is_planned_over_a_chain() -> None:
    graph = Graph("chain")
    value = graph.add_input("x", TensorType("float32", (1024,)))
    for _ in range(8):
        value = graph.add_node("exp", [graph.add_node("neg", [value]).output]).output
    graph.set_outputs([("y", value)])
    assert build(graph, host(), 1, plain).activation_bytes <= 3 * 4096


@pytest.mark.parametrize("channels", [16, 12, 3])
@pytest.mark.parametrize("templates", [False, True])
def test_a_chain_of_convolutions_in_blocked_layout(channels: int, templates: bool) -> None:
    rng = np.random.default_rng(1)
    graph = Graph("blocked")
    x = graph.add_input("x", TensorType("float32", (1, 5, 9, 8)))

    def conv(value, outputs: int, layout: str):
        w = rng.standard_normal((outputs, value.type.shape[1], 3, 3)).astype(np.float32) / 8
        weight = graph.add_constant(w, graph.fresh_name("w"))
        bias = graph.add_constant(rng.standard_normal(outputs).astype(np.float32), graph.fresh_name("b"))
        return graph.add_node("conv", [value, weight, bias], CONV, output_layouts=[layout]).output

    a = conv(x, channels, "NCHW8c")
    b = conv(graph.add_node("relu", [a]).output, channels, "NCHW8c")
    c = graph.add_node("add", [a, b]).output
    half = graph.add_constant(np.float32(0.5).reshape(1, 1, 1, 1), "half")
    c = graph.add_node("sub", [c, half]).output
    window = {"kernel": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilations": (1, 1)}
    d = graph.add_node("max_pool", [c], window).output
    d = graph.add_node("average_pool", [d], {**window, "padding": (1, 1, 0, 0)}).output
    e = conv(d, 7, "")
    mean = graph.add_node("reduce_mean", [c], {"axes": (2, 3)}).output
    scaled = graph.add_node("mul", [c, graph.add_node("sigmoid", [mean]).output]).output
    plain_again = graph.add_node("layout_cast", [scaled], {"layout": ""}, output_layouts=[""]).output
    graph.set_outputs([("e", e), ("scaled", plain_again), ("blocked", c)])
    graph.verify()
    if templates:
        FuseOperators().run(graph, PassContext(target=host()))
    check(graph, templates=templates)


def test_layouts_are_inverted_and_padded_with_zeros() -> None:
    type = TensorType("float32", (2, 5, 3, 2), "NCHW4c")
    array = np.random.default_rng(0).standard_normal((2, 5, 3, 2)).astype(np.float32)
    stored = to_physical(array, type)
    assert stored.shape == (2, 2, 3, 2, 4)
    assert not stored[:, 1, :, :, 1:].any()
    assert stored[1, 1, 2, 1, 0] == array[1, 4, 2, 1]
    np.testing.assert_array_equal(to_logical(stored, type), array)


def test_an_exported_library_gives_the_same_results(tmp_path: Path) -> None:
    graph = Graph("exported")
    x = graph.add_input("x", TensorType("float32", (3, 4)))
    w = graph.add_constant(np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32), "w")
    graph.set_outputs([("y", graph.add_node("matmul", [x, w]).output)])
    export(build(graph, host(), 1), tmp_path / "model.so")
    machine = virtual_machine(tvm.runtime.load_module(str(tmp_path / "model.so")))
    array = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    (result,) = machine["main"](tvm.runtime.tensor(array))
    np.testing.assert_allclose(result.numpy(), array @ w.data, rtol=1e-5, atol=1e-5)


def test_symbolic_dimensions_and_recurrent_operators_are_refused() -> None:
    graph = Graph("symbolic")
    x = graph.add_input("x", TensorType("float32", (symbol("N"), 4)))
    graph.set_outputs([("y", graph.add_node("exp", [x]).output)])
    with pytest.raises(EdgeIRError, match="fixed"):
        build(graph, host(), 1, plain)
    graph = Graph("recurrent")
    x = graph.add_input("x", TensorType("float32", (2, 1, 3)))
    w = graph.add_constant(np.zeros((1, 4, 3), np.float32), "w")
    r = graph.add_constant(np.zeros((1, 4, 4), np.float32), "r")
    node = graph.add_node("rnn", [x, w, r], {"hidden_size": 4, "activations": ("tanh",)})
    graph.set_outputs([("y", node.outputs[0])])
    with pytest.raises(UnsupportedModelError, match="unroll-recurrent"):
        build(graph, host(), 1, plain)
