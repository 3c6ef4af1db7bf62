"""The pass `assign-layouts`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Value, parse_graph
from edgeir.ir.evaluate import evaluate
from edgeir.ir.storage import large_constants
from edgeir.passes.layout.assign_layouts import AssignLayouts
from edgeir.passes.layout.layout_problem import LayoutProblem, layout_problem
from edgeir.passmanager import PassContext
from edgeir.targets import lookup

UNIT = {"strides": (1, 1), "dilations": (1, 1)}


class Net:
    """A small network under construction."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = Builder("net")

    def array(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape).astype(np.float32)

    def conv(self, x: Value, out: int, kernel: int = 1, groups: int = 1) -> Value:
        w = self.array(out, x.type.static_shape[1] // groups, kernel, kernel)
        return self.builder.conv(x, w, self.array(out), padding=(kernel // 2,) * 4, groups=groups, **UNIT)


def casts(graph: Graph) -> int:
    return sum(node.op == "layout_cast" for node in graph.nodes)


def check(graph: Graph, block: int = 8) -> Graph:
    """Runs the pass; the result is valid, round-trips, and computes the same."""
    inputs = {
        v.name: np.random.default_rng(1).standard_normal(v.type.static_shape).astype("float32") for v in graph.inputs
    }
    before = evaluate(graph, inputs)
    AssignLayouts(block).run(graph, PassContext())
    graph.verify()
    after = evaluate(graph, inputs)
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])
    assert str(parse_graph(str(graph), large_constants(graph))) == str(graph)
    assert all(not value.type.layout for value in (*graph.inputs, *graph.outputs))
    return graph


def test_a_chain_of_convolutions_is_blocked_with_one_cast_at_its_end() -> None:
    net = Net()
    b = net.builder
    y = b.relu(net.conv(b.input("x", "float32[1, 3, 8, 8]"), 16, 3))
    y = b.add(net.conv(y, 16, 3, groups=16), net.array(16, 1, 1))
    y = b.add(y, net.conv(y, 16))
    graph = check(b.outputs(y=y))
    assert casts(graph) == 1
    assert {v.type.layout for n in graph.nodes if n.op in ("conv", "add") for v in n.outputs} == {"NCHW8c"}


def test_a_pooled_head_needs_only_the_cast_that_is_a_view() -> None:
    net = Net()
    b = net.builder
    y = b.reduce_mean(net.conv(b.input("x", "float32[1, 3, 8, 8]"), 16, 3), axes=(2, 3))
    graph = check(b.outputs(y=b.reshape(y, shape=(1, 16))))
    assert casts(graph) == 1
    (cast,) = (node for node in graph.nodes if node.op == "layout_cast")
    assert cast.input(0).type.shape == (1, 16, 1, 1)


def test_a_plain_operator_between_two_convolutions_gets_plain_tensors() -> None:
    net = Net()
    b = net.builder
    y = b.softmax(net.conv(b.input("x", "float32[1, 8, 8, 8]"), 16), axis=1)
    graph = check(b.outputs(y=b.reduce_max(net.conv(y, 16), axes=(2, 3), keepdims=False)))
    assert [n.output.type.layout for n in graph.nodes if n.op == "softmax"] == [""]


def test_division_on_ragged_channels_stays_plain() -> None:
    # A padded lane would be 0/0, and the next convolution would carry the NaN on.
    net = Net()
    b = net.builder
    y = net.conv(b.input("x", "float32[1, 8, 8, 8]"), 20)
    graph = check(b.outputs(y=net.conv(b.div(y, b.exp(y)), 16)))
    assert [n.output.type.layout for n in graph.nodes if n.op == "div"] == [""]
    assert [n.output.type.layout for n in graph.nodes if n.op == "exp"] != ["x"]


def test_graphs_without_convolutions_stay_as_they_are() -> None:
    b = Builder("net")
    graph = b.outputs(y=b.relu(b.input("x", "float32[1, 16, 8, 8]")))
    version = graph.version
    AssignLayouts(8).run(graph, PassContext())
    assert graph.version == version


def test_the_block_is_the_targets_vector() -> None:
    net = Net()
    b = net.builder
    graph = b.outputs(y=net.conv(b.input("x", "float32[1, 16, 8, 8]"), 32))
    AssignLayouts().run(graph, PassContext(target=lookup("cortex-a72")))
    assert any(v.type.layout == "NCHW4c" for n in graph.nodes for v in n.outputs)


def test_without_a_target_or_a_block_it_says_what_to_supply() -> None:
    net = Net()
    b = net.builder
    graph = b.outputs(y=net.conv(b.input("x", "float32[1, 16, 8, 8]"), 32))
    with pytest.raises(EdgeIRError, match="target"):
        AssignLayouts().run(graph, PassContext())


def cost(problem: LayoutProblem, graph: Graph, labels: list[bool]) -> int:
    total = sum(g.blocked_cost if label else g.plain_cost for g, label in zip(problem.groups, labels, strict=True))
    for cast, producer, consumers in problem._transitions(graph):
        total += cast * any(labels[index] != labels[producer] for index in consumers)
    return total


@given(st.data())
def test_no_assignment_costs_less_than_the_cut(data: st.DataObject) -> None:
    net = Net()
    b = net.builder
    values = [b.input("x", "float32[1, 8, 3, 3]")]
    for _ in range(data.draw(st.integers(2, 7))):
        x = data.draw(st.sampled_from(values))
        kind = data.draw(st.sampled_from(["conv", "narrow", "relu", "softmax", "add", "pool"]))
        if kind in ("conv", "narrow"):
            values.append(net.conv(x, 8 if kind == "conv" else 2))
        elif kind == "add":
            same = [v for v in values if v.type == x.type]
            values.append(b.add(x, data.draw(st.sampled_from(same))))
        elif kind == "softmax":
            values.append(b.softmax(x, axis=1))
        elif kind == "relu":
            values.append(b.relu(x))
        else:
            values.append(b.reduce_mean(x, axes=(2, 3)))
    graph = b.outputs(y=values[-1], z=values[data.draw(st.integers(0, len(values) - 1))])
    problem = layout_problem(graph, 8)
    free = [index for index, group in enumerate(problem.groups) if group.fixed is None]
    if len(free) > 9:
        return
    best = min(
        cost(problem, graph, [dict(zip(free, choice, strict=True)).get(i, False) for i in range(len(problem.groups))])
        for choice in itertools.product((False, True), repeat=len(free))
    )
    assert cost(problem, graph, problem.solve(graph)) == best
    check(graph)


def test_weights_that_are_decoded_stay_plain() -> None:
    net = Net()
    b = net.builder
    x = b.input("x", "float32[1, 16, 6, 6]")
    codes = net.random.integers(-127, 127, (32, 16, 1, 1)).astype(np.int8)
    weights = b.dequantize(codes, net.array(32, 1, 1, 1))
    y = b.conv(x, weights, padding=(0,) * 4, groups=1, **UNIT)
    graph = check(b.outputs(y=net.conv(b.relu(y), 16)))
    assert casts(graph) == 2
    assert not any(value.type.layout for node in graph.nodes if node.op == "dequantize" for value in node.outputs)


def ragged_net() -> Graph:
    """24 channels between convolutions of 48 and 32: blocks of 16 leave a third of the lanes of the 24 empty."""
    net = Net()
    b = net.builder
    x = b.relu(net.conv(b.input("x", "float32[1, 16, 9, 7]"), 48), name="wide")
    y = b.relu(net.conv(x, 24), name="ragged")
    y = b.add(y, net.conv(y, 24, 3, groups=24), name="sum")
    return b.outputs(y=b.relu(net.conv(y, 32), name="end"))


def test_a_halved_chain_has_blocks_of_half_the_size_and_no_casts_more() -> None:
    plain, halved = ragged_net(), ragged_net()
    check(plain, 16)
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 16, 9, 7)).astype(np.float32)}
    before = evaluate(halved, inputs)["y"]
    AssignLayouts(16, ("sum",)).run(halved, PassContext())
    halved.verify()
    np.testing.assert_array_equal(evaluate(halved, inputs)["y"], before)
    layouts = {value.name: value.type.layout for node in halved.nodes for value in node.outputs}
    assert (layouts["ragged"], layouts["sum"]) == ("NCHW8c", "NCHW8c")
    assert (layouts["wide"], layouts["end"]) == ("NCHW16c", "NCHW16c")
    assert casts(halved) == casts(plain)


def test_alternatives_halve_chains_whose_blocks_are_ragged() -> None:
    graph, context = ragged_net(), PassContext()
    found = AssignLayouts(16).alternatives(graph, context)
    assert [(item.block, len(item.halved)) for item in found if isinstance(item, AssignLayouts)] == [
        *((1, 0), (8, 0), (16, 1))
    ]
    last = found[-1]
    assert isinstance(last, AssignLayouts)
    assert last.alternatives(graph, context) == ()
    assert AssignLayouts(8).alternatives(graph, context) == (AssignLayouts(1), AssignLayouts(4))
    assert AssignLayouts(1).alternatives(graph, context) == ()


@pytest.mark.parametrize("name", ["x", "nothing"])
def test_a_value_without_blocks_cannot_be_halved(name: str) -> None:
    with pytest.raises(EdgeIRError, match="no layout to halve"):
        AssignLayouts(16, (name,)).run(ragged_net(), PassContext())
