"""Concatenations put together in place: which they are, and that results are those of the concatenation's kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.evaluate import evaluate
from edgeir.layer_latency import kernel_seconds
from edgeir.lowering import module
from edgeir.lowering.build import Lowered, build
from edgeir.lowering.in_place import concatenated_in_place
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import host, lookup
from edgeir.tuning.tasks import kernel_tasks

CONV = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}


class Net:
    """A graph in the making; every value has 16 floats, 64 bytes, for each unit of its second axis."""

    def __init__(self, batch: int = 1) -> None:
        self.graph = Graph("net")
        self.batch = batch
        self.x = self.graph.add_input("x", TensorType("float32", (batch, 2, 16)))

    def apply(self, op: str, value: Value | None = None) -> Value:
        return self.graph.add_node(op, [self.x if value is None else value]).output

    def concat(self, *values: Value, axis: int = 1) -> Value:
        return self.graph.add_node("concat", list(values), {"axis": axis}).output

    def reshape(self, value: Value, *shape: int) -> Value:
        return self.graph.add_node("reshape", [value], {"shape": shape}).output

    def done(self, *values: Value) -> Graph:
        self.graph.set_outputs([(f"y{index}", value) for index, value in enumerate(values)])
        return self.graph


def first_rows(graph: Graph, value: Value, rows: int) -> Value:
    attributes = {"starts": (0, 0, 0), "sizes": (1, rows, 16), "steps": (1, 1, 1)}
    return graph.add_node("slice", [value], attributes).output


def in_place(graph: Graph) -> int:
    """How many concatenations are put together in place."""
    return len({part.whole for part in concatenated_in_place(graph).values()})


def copied(graph: Graph, threads: int) -> Lowered:
    """Compiled with a kernel for every concatenation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "concatenated_in_place", lambda _: {})
        return build(graph, host(), threads)


def check(graph: Graph, threads: int = 1, reference: Graph | None = None) -> Lowered:
    """Results are bit-equal to the concatenation's kernel's, near the reference's, and stay when others are made."""
    lowered, other = build(graph, host(), threads), copied(graph, threads)
    runner, wanted = Runner(graph, lowered), Runner(graph, other)
    assert other.plan.parts == {}
    assert len(lowered.plan.calls) == len(lowered.calls) == len(other.calls) - in_place(graph)
    assert lowered.activation_bytes <= other.activation_bytes
    kept = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inputs = {v.name: rng.standard_normal(v.type.static_shape).astype(v.type.dtype) for v in graph.inputs}
        kept.append((runner(inputs), wanted(inputs)))
        for name, array in evaluate(reference or graph, inputs).items():
            np.testing.assert_allclose(kept[-1][0][name], array, rtol=1e-4, atol=1e-4)
    for got, expected in kept:
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)
    return lowered


def two(net: Net) -> tuple[Value, Value]:
    return net.apply("neg"), net.apply("exp")


def simple() -> Graph:
    net = Net()
    return net.done(net.apply("sigmoid", net.concat(*two(net))))


def returned() -> Graph:
    net = Net()
    c = net.concat(*two(net))
    return net.done(c, net.apply("exp", c), net.reshape(c, 64), c)


def nested() -> Graph:
    net = Net()
    value = net.apply("neg")
    for _ in range(4):
        value = net.concat(value, net.apply("tanh", first_rows(net.graph, value, 2)))
    return net.done(net.apply("neg", value))


def views_between() -> Graph:
    net = Net()
    a, b = two(net)
    c = net.concat(net.reshape(a, 1, 32), net.reshape(net.reshape(b, 32), 1, 32))
    return net.done(net.apply("neg", net.reshape(c, 4, 16)))


def used_elsewhere_and_later() -> Graph:
    net = Net()
    # The peak of the memory is here, so that the rest may take more.
    peak = net.graph.add_node("reduce_max", [net.apply("exp", net.concat(*[net.x] * 16))], {"axes": (0, 1, 2)}).output
    a, b = two(net)
    value = net.apply("sigmoid", net.concat(a, b))
    for _ in range(3):
        value = net.apply("tanh", net.apply("neg", value))
    mean = net.graph.add_node("reduce_mean", [value], {"axes": (0, 1, 2)}).output
    # %a and a view of it are read long after the concatenation's last use.
    return net.done(net.graph.add_node("add", [a, mean]).output, net.apply("neg", net.reshape(a, 32)), peak)


def several_results() -> Graph:
    net = Net()
    split = net.graph.add_node("top_k", [net.x], {"k": 16, "axis": 2})
    values, positions = split.outputs
    c = net.concat(values, net.apply("neg", values))
    d = net.concat(positions, net.apply("neg", positions))
    return net.done(net.apply("exp", c), net.apply("neg", d))


def first_axis() -> Graph:
    net = Net(batch=3)
    return net.done(net.apply("neg", net.concat(*two(net), axis=0)))


def blocked(channels: tuple[int, ...], layout: str = "NCHW16c", block_input: int = 4) -> Graph:
    graph = Graph("blocked")
    x = graph.add_input("x", TensorType("float32", (1, block_input, 5, 5)))
    rng = np.random.default_rng(0)
    parts = []
    for index, count in enumerate(channels):
        w = graph.add_constant(rng.standard_normal((count, block_input, 3, 3)).astype(np.float32) / 4, f"w{index}")
        b = graph.add_constant(rng.standard_normal(count).astype(np.float32), f"b{index}")
        parts.append(graph.add_node("conv", [x, w, b], CONV, output_layouts=[layout]).output)
    c = graph.add_node("concat", parts, {"axis": 1}, output_layouts=[layout]).output
    y = graph.add_node("relu", [c]).output
    graph.set_outputs([("y", graph.add_node("layout_cast", [y], {"layout": ""}, output_layouts=[""]).output)])
    graph.verify()
    return graph


CHOSEN: dict[str, tuple[Callable[[], Graph], int]] = {
    "simple": (simple, 1),
    "returned": (returned, 1),
    "nested": (nested, 4),
    "views between": (views_between, 1),
    "used elsewhere and later": (used_elsewhere_and_later, 1),
    "several results": (several_results, 2),
    "first axis of a batch": (first_axis, 1),
    "whole blocks": (lambda: blocked((16, 32, 16)), 1),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CHOSEN)
def test_put_together_in_place(name: str, threads: int) -> None:
    make, count = CHOSEN[name]
    graph = make()
    assert in_place(graph) == count
    check(graph, threads)


def returned_operand() -> Graph:
    net = Net()
    a, b = two(net)
    return net.done(a, net.apply("neg", net.concat(a, b)))


def returned_view_of_operand() -> Graph:
    net = Net()
    a, b = two(net)
    return net.done(net.reshape(net.reshape(a, 32), 4, 8), net.apply("neg", net.concat(a, b)))


def same_operand_twice() -> Graph:
    net = Net()
    a = net.apply("neg")
    return net.done(net.apply("exp", net.concat(a, a)))


def views_of_the_same() -> Graph:
    net = Net()
    a = net.apply("neg")
    c = net.concat(net.reshape(a, 1, 32), net.reshape(net.reshape(a, 32), 1, 32))
    return net.done(net.apply("exp", c))


def input_operand() -> Graph:
    net = Net()
    return net.done(net.apply("exp", net.concat(net.x, net.apply("neg"))))


def constant_operand() -> Graph:
    net = Net()
    constant = net.graph.add_constant(np.ones((1, 2, 16), np.float32), "c")
    return net.done(net.apply("exp", net.concat(net.apply("neg"), constant)))


def inner_axis() -> Graph:
    net = Net()
    return net.done(net.apply("neg", net.concat(*two(net), axis=2)))


def batch() -> Graph:
    net = Net(batch=2)
    return net.done(net.apply("neg", net.concat(*two(net))))


def misaligned() -> Graph:
    graph = Graph("misaligned")
    x = graph.add_input("x", TensorType("float32", (1, 15)))
    a, b = (graph.add_node(op, [x]).output for op in ("neg", "exp"))
    c = graph.add_node("concat", [a, b], {"axis": 1}).output
    graph.set_outputs([("y", graph.add_node("neg", [c]).output)])
    return graph


NOT_CHOSEN: dict[str, Callable[[], Graph]] = {
    "operand is returned": returned_operand,
    "view of an operand is returned": returned_view_of_operand,
    "operand twice": same_operand_twice,
    "two views of one operand": views_of_the_same,
    "input": input_operand,
    "constant": constant_operand,
    "inner axis": inner_axis,
    "axis within a batch": batch,
    "operand at no multiple of 64 bytes": misaligned,
}


@pytest.mark.parametrize("name", NOT_CHOSEN)
def test_left_to_a_kernel(name: str) -> None:
    graph = NOT_CHOSEN[name]()
    assert concatenated_in_place(graph) == {}
    check(graph)


def test_an_operand_lies_in_one_concatenation_only() -> None:
    net = Net()
    a, b = two(net)
    first, second = net.concat(a, b), net.concat(b, net.apply("sigmoid"))
    graph = net.done(net.apply("neg", first), net.apply("neg", second))
    assert {part.whole for part in concatenated_in_place(graph).values()} == {first}
    check(graph)


def test_parts_of_parts_and_their_places() -> None:
    net = Net()
    a, b = two(net)
    inner = net.concat(a, b)
    outer = net.concat(net.apply("sigmoid"), inner)
    plan = module.plan(net.done(net.apply("neg", outer)), host())
    assert plan.parts[b].whole is inner and plan.parts[b].offset == 128
    assert plan.place(b).whole is outer and plan.place(b).offset == 256
    assert [step.node.op for step in plan.calls] == ["neg", "exp", "sigmoid", "neg"]


def test_memory_is_not_held_longer_than_it_pays() -> None:
    """The result would live from its small first operand on, through the greatest memory of the net."""
    graph = Graph("early")
    x = graph.add_input("x", TensorType("float32", (1, 64, 16)))
    early = graph.add_node("reduce_mean", [x], {"axes": (1,)}).output
    wide = graph.add_node("exp", [graph.add_node("neg", [x]).output]).output
    late = first_rows(graph, wide, 32)
    c = graph.add_node("concat", [early, late], {"axis": 1}).output
    graph.set_outputs([("y", graph.add_node("reduce_max", [c], {"axes": (1,)}).output)])
    assert concatenated_in_place(graph) == {}
    check(graph)


def test_every_caller_counts_the_same_kernels() -> None:
    graph = blocked((16, 32))
    target = lookup("host").with_cores(1)
    calls = build(graph, target).calls
    assert sum(task.count for task in kernel_tasks(graph, target)) == len(calls) == 4
    assert "concat" not in " ".join(calls)
    # For a GPU, and for those who name no target, the concatenation has a kernel.
    gpu = lookup("cuda-sm_87")
    assert len(module.plan(graph, gpu).calls) == len(module.plan(graph).calls) == 5


def test_times_of_layers_know_of_it() -> None:
    graph = Graph("plain")
    x = graph.add_input("x", TensorType("float32", (1, 16, 8, 8)))
    rng = np.random.default_rng(0)
    weights = [graph.add_constant(rng.standard_normal((32, 16, 3, 3)).astype(np.float32), f"w{i}") for i in range(2)]
    a, b = (graph.add_node("conv", [x, w, None], CONV).output for w in weights)
    c = graph.add_node("concat", [a, b], {"axis": 1}).output
    graph.set_outputs([("y", graph.add_node("max_pool", [c], {
        "kernel": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilations": (1, 1)}).output)])  # fmt: skip
    seconds = kernel_seconds(graph, lookup("host").with_cores(1))
    assert seconds[a.name] > 0 and seconds[b.name] > 0
    assert c.name not in seconds


@st.composite
def nets(draw: st.DrawFn) -> Graph:
    """Convolutions, element-wise operators and concatenations of earlier values, in any order."""
    graph = Graph("net")
    x = graph.add_input("x", TensorType("float32", (draw(st.sampled_from([1, 1, 1, 2])), 16, 4, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    values = [x]
    for index in range(draw(st.integers(3, 9))):
        kind = draw(st.sampled_from(["conv", "concat", "concat", "relu", "add"]))
        operand = values[draw(st.integers(max(0, len(values) - 3), len(values) - 1))]
        if kind == "concat":
            chosen = draw(st.lists(st.integers(0, len(values) - 1), min_size=2, max_size=3))
            value = graph.add_node("concat", [values[i] for i in chosen], {"axis": 1}).output
            if value.type.static_shape[1] > 160:
                graph.erase(list(graph.nodes)[-1])
                continue
        elif kind == "conv":
            outputs, inputs = draw(st.sampled_from([8, 12, 16, 32])), operand.type.static_shape[1]
            w = (rng.standard_normal((outputs, inputs, 1, 1)) / np.sqrt(inputs)).astype(np.float32)
            conv = {**CONV, "padding": (0, 0, 0, 0)}
            value = graph.add_node("conv", [operand, graph.add_constant(w, f"w{index}"), None], conv).output
        else:
            value = graph.add_node(kind, [operand] * (2 if kind == "add" else 1)).output
        values.append(value)
    unused = [value for value in values if not value.users]
    more = draw(st.lists(st.sampled_from(values), max_size=1))
    graph.set_outputs([(f"y{index}", value) for index, value in enumerate([*unused, *more])])
    return graph


def check_net(graph: Graph, threads: int) -> None:
    optimized, target = graph.copy(), host()
    default_pipeline(target).run(optimized, PassContext(target=target, keep_reproducer=False))
    check(optimized, threads, graph)


@given(graph=nets(), threads=st.integers(1, 2))
@settings(max_examples=3, deadline=None)
def test_nets_of_convolutions_and_concatenations(graph: Graph, threads: int) -> None:
    check_net(graph, threads)


@pytest.mark.slow
@given(graph=nets(), threads=st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_many_nets_of_convolutions_and_concatenations(graph: Graph, threads: int) -> None:
    check_net(graph, threads)
