from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.ir import Builder, Graph, Pattern, TensorType, Value
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passes.fusion.groups import Grouping, Limits
from edgeir.passes.fusion.outline import outline
from edgeir.passmanager import NumericCheck, PassContext, Pipeline

Run = Callable[..., Graph]
WINDOW: dict[str, Any] = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}


def conv(b: Builder, x: Value) -> Value:
    channels = x.type.static_shape[1]
    w = np.random.default_rng(0).standard_normal((4, channels, 3, 3)).astype(np.float32)
    return b.conv(x, w, **WINDOW)


def kernels(graph: Graph) -> list[str]:
    """Body operators of each fused node, and the names of nodes that are not fused."""
    return [
        " ".join(inner.op for inner in node.attributes["body"].nodes) if node.op == "fused" else f"[{node.op}]"
        for node in graph.nodes
    ]


def fuse(run_passes: Run, build: Callable[[Builder, Value], Value], type: str = "float32[1, 4, 6, 6]") -> list[str]:
    b = Builder("case")
    x = b.input("x", type)
    return kernels(run_passes("fuse-operators", b.outputs(y=build(b, x))))


F = np.float32
GROUPS: dict[str, tuple[Callable[[Builder, Value], Value], list[str]]] = {
    "epilogue": (lambda b, x: b.relu(b.add(conv(b, x), np.ones((4, 1, 1), F))), ["conv add relu"]),
    "diamond epilogue": (lambda b, x: (lambda c: b.mul(c, b.sigmoid(c)))(conv(b, x)), ["conv sigmoid mul"]),
    "residual": (lambda b, x: b.relu(b.add(conv(b, x), x)), ["conv add relu"]),
    "two branches": (lambda b, x: b.add(conv(b, x), b.relu(conv(b, b.exp(x)))), ["conv", "exp", "conv relu add"]),
    "work before a convolution stays": (lambda b, x: conv(b, b.relu(x)), ["relu", "conv"]),
    "reduction": (
        lambda b, x: b.sqrt(b.reduce_mean(b.mul(x, x), axes=(2, 3))),
        ["mul reduce_mean sqrt"],
    ),
    "shared prologue stays": (
        lambda b, x: (lambda e: b.div(e, b.reduce_sum(e, axes=(1,))))(b.exp(x)),
        ["exp", "reduce_sum", "div"],
    ),
    "softmax": (lambda b, x: b.softmax(b.mul(x, np.array(0.5, F)), axis=3), ["mul softmax"]),
    "gate of another shape": (
        lambda b, x: (lambda c: b.mul(c, b.sigmoid(b.reduce_mean(c, axes=(2, 3)))))(conv(b, x)),
        ["conv", "reduce_mean sigmoid", "mul"],
    ),
    "elementwise chain": (lambda b, x: b.tanh(b.add(b.exp(x), x)), ["exp add tanh"]),
    "transpose of work": (lambda b, x: b.transpose(b.exp(x), perm=(3, 2, 1, 0)), ["exp transpose"]),
    "work on a slice": (
        lambda b, x: b.exp(b.slice(x, starts=(0, 1, 0, 0), sizes=(1, 2, 6, 6), steps=(1, 1, 1, 1))),
        ["slice exp"],
    ),
    "work that would be repeated": (lambda b, x: b.expand(b.exp(x), shape=(3, 4, 6, 6)), ["exp", "expand"]),
    "small work that would be repeated": (
        lambda b, x: b.add(x, b.exp(b.reduce_sum(x, axes=(0, 1, 2)))),
        ["reduce_sum exp", "add"],
    ),
    "one value at two indices": (
        lambda b, x: (lambda e: b.add(e, b.transpose(e, perm=(0, 1, 3, 2))))(b.exp(x)),
        ["exp", "transpose add"],
    ),
    "concat of work": (lambda b, x: b.concat(b.exp(x), b.tanh(x), axis=1), ["exp tanh concat"]),
    "lone reshape": (lambda b, x: b.reshape(x, shape=(4, 36)), ["[reshape]"]),
    "reshape after a convolution": (lambda b, x: b.reshape(conv(b, x), shape=(4, 36)), ["conv", "[reshape]"]),
    "reshape between work": (
        lambda b, x: b.tanh(b.reshape(b.exp(x), shape=(4, 36))),
        ["exp reshape tanh"],
    ),
    "reshape before work": (lambda b, x: b.tanh(b.reshape(x, shape=(4, 36))), ["[reshape]", "tanh"]),
    "opaque": (lambda b, x: b.relu(b.cum_sum(b.exp(x), axis=1)), ["exp", "cum_sum", "relu"]),
    "integers for an epilogue": (
        lambda b, x: (lambda q: b.mul(b.add(conv(b, x), b.dequantize(q, F(0.1))), b.dequantize(q, F(0.2))))(
            b.quantize(x, F(0.1), np.array(0, np.int8))
        ),
        ["quantize", "conv dequantize dequantize add mul"],
    ),
    "integers for two kernels": (
        lambda b, x: (lambda d: b.matmul(b.relu(d), b.tanh(d)))(
            b.dequantize(b.quantize(x, F(0.1), np.array(0, np.int8)), F(0.1))
        ),
        ["quantize", "dequantize relu", "dequantize tanh", "matmul"],
    ),
    "integers are handed out": (
        lambda b, x: b.softmax(b.dequantize(b.quantize(conv(b, x), F(0.1), np.array(0, np.int8)), F(0.1)), axis=1),
        ["conv quantize", "dequantize softmax"],
    ),
    "compressed weights": (
        lambda b, x: b.matmul(x, b.dequantize(np.ones((6, 9), np.int8), np.full((1, 9), 0.5, F))),
        ["dequantize matmul"],
    ),
    "compressed weights for two products": (
        lambda b, x: (lambda w: b.add(b.matmul(x, w), b.matmul(b.exp(x), w)))(
            b.cast(np.ones((6, 9), np.int8), dtype="float32")
        ),
        ["cast matmul", "exp", "cast matmul add"],
    ),
    "slice for an epilogue": (
        lambda b, x: b.add(
            conv(b, x), b.slice(b.concat(x, x, axis=1), starts=(0, 2, 0, 0), sizes=(1, 4, 6, 6), steps=(1, 1, 1, 1))
        ),
        ["concat", "conv slice add"],
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups(run_passes: Run, name: str) -> None:
    build, expected = GROUPS[name]
    found = fuse(run_passes, build)
    assert Counter(" ".join(sorted(kernel.split())) for kernel in found) == Counter(
        " ".join(sorted(kernel.split())) for kernel in expected
    )


def test_scalar_constants_are_in_the_body_and_others_are_operands(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "float32[1, 4, 6, 6]")
    y = b.add(b.mul(conv(b, x), np.array(2, F)), np.ones((4, 1, 1), F))
    (node,) = run_passes("fuse-operators", b.outputs(y=y)).nodes
    assert len(node.inputs) == 3
    assert [value.data.size for value in node.attributes["body"].constants] == [1]
    assert node.attributes["anchor"] == "conv"


def test_names_and_places_survive(run_passes: Run) -> None:
    b = Builder("case", location="block1/conv")
    x = b.input("x", "float32[1, 4, 6, 6]")
    c = conv(b, x)
    b.location = "block1/act"
    graph = run_passes("fuse-operators", b.outputs(y=b.node("relu", c, name="activated").output))
    (node,) = graph.nodes
    assert (node.output.name, node.location) == ("activated", "block1/conv")


def test_results_that_the_graph_returns_end_a_group(run_passes: Run) -> None:
    b = Builder("case")
    c = conv(b, b.input("x", "float32[1, 4, 6, 6]"))
    assert kernels(run_passes("fuse-operators", b.outputs(y=b.relu(c), z=c))) == ["conv", "relu"]


def test_several_results(run_passes: Run) -> None:
    b = Builder("case")
    node = b.node("top_k", b.input("x", "float32[8]"), k=2, axis=0)
    b.graph.set_outputs({"values": node.outputs[0], "indices": node.outputs[1]})
    (fused,) = run_passes("fuse-operators", b.graph).nodes
    assert fused.attributes["anchor"] == "top_k"
    assert len(fused.outputs) == 2


def test_limits(run_passes: Run) -> None:
    b = Builder("case")
    total = b.input("x", "float32[4]")
    for index in range(6):
        total = b.add(total, b.input(f"x{index}", "float32[4]"))
    graph = run_passes("fuse-operators{max-operands=4}", b.outputs(y=total))
    assert [len(node.inputs) for node in graph.nodes] == [4, 4]


def test_fusing_again_changes_nothing(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "float32[1, 4, 6, 6]")
    graph = run_passes("fuse-operators", b.outputs(y=b.relu(conv(b, b.exp(x)))))
    text = str(graph)
    assert str(run_passes("fuse-operators", graph)) == text


UNARY = ("exp", "tanh", "relu")


@st.composite
def dags(draw: st.DrawFn) -> Graph:
    """Random graphs over tensors of one shape, with every fusion pattern in them."""
    b = Builder("random")
    values = [b.input("x", "float32[1, 4, 3, 3]"), b.input("y", "float32[1, 4, 3, 3]")]
    for _ in range(draw(st.integers(2, 25))):
        # Mostly recent values, so that chains and diamonds are frequent.
        pick = lambda: values[max(0, len(values) - 1 - draw(st.integers(0, 5)))]  # noqa: E731
        kind = draw(
            st.sampled_from(("unary", "add", "mul", "conv", "softmax", "mean", "transpose", "cum_sum", "views"))
        )
        if kind == "unary":
            values.append(getattr(b, draw(st.sampled_from(UNARY)))(b.clip(pick(), minimum=-2.0, maximum=2.0)))
        elif kind in ("add", "mul"):
            values.append(getattr(b, kind)(pick(), pick()))
        elif kind == "conv":
            values.append(conv(b, b.tanh(pick())))
        elif kind == "softmax":
            values.append(b.softmax(pick(), axis=1))
        elif kind == "mean":
            values.append(b.sub(pick(), b.reduce_mean(b.abs(pick()), axes=(1,))))
        elif kind == "transpose":
            values.append(b.transpose(pick(), perm=(0, 1, 3, 2)))
        elif kind == "cum_sum":
            values.append(b.cum_sum(b.tanh(pick()), axis=1))
        else:
            values.append(b.reshape(b.sigmoid(b.reshape(pick(), shape=(36,))), shape=(1, 4, 3, 3)))
    extra = draw(st.sets(st.integers(0, len(values) - 1), max_size=2))
    b.graph.set_outputs([("last", values[-1]), *((f"o{index}", values[index]) for index in sorted(extra))])
    Pipeline("dead-code").run(b.graph)
    return b.graph


@settings(max_examples=60, deadline=None, derandomize=True)
@given(graph=dags())
def test_groups_are_convex_acyclic_and_cover_the_graph(graph: Graph) -> None:
    """Checked with networkx on the graph before any node is moved."""
    groups = Grouping(graph, Limits()).form()
    owner = {node: index for index, group in enumerate(groups) for node in group.members}
    assert sum(len(group.members) for group in groups) == len(owner)
    rest = [node for node in graph.nodes if node not in owner]
    assert all(node.op == "reshape" for node in rest)
    edges = graph.to_networkx()
    labels = {node: owner.get(node, -1 - index) for index, node in enumerate(graph.nodes)}
    quotient = networkx.DiGraph((labels[a], labels[b]) for a, b in edges.edges if labels[a] != labels[b])
    assert networkx.is_directed_acyclic_graph(quotient)
    for group in groups:
        outside = {user for node in group.members for value in node.outputs for user in value.users} - set(
            group.members
        )
        reachable = set().union(outside, *(networkx.descendants(edges, node) for node in outside))
        assert reachable.isdisjoint(group.members), "a path leaves the group and comes back"
        sinks = [n for n in group.members if any(v.is_output or set(v.users) - set(group.members) for v in n.outputs)]
        assert sinks in ([], [group.sink])
        heavy = [n for n in group.members if n.definition.pattern not in (Pattern.ELEMENTWISE, Pattern.INJECTIVE)]
        assert heavy in ([], [group.anchor])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(graph=dags())
def test_random_graphs_compute_the_same(graph: Graph) -> None:
    check = NumericCheck()
    report = Pipeline("fuse-operators").run(graph, PassContext(instruments=[check], keep_reproducer=False))
    agreement = report.passes[0].agreement
    assert agreement is not None and agreement.max_error == 0.0
    assert all(node.op in ("fused", "reshape") for node in graph.nodes)


def test_a_diamond_through_another_kernel_is_not_one_group() -> None:
    """conv → exp → cum_sum → add and conv → add: taking add into conv's kernel would make a cycle."""
    b = Builder("case")
    c = conv(b, b.input("x", "float32[1, 4, 3, 3]"))
    graph = b.outputs(y=b.add(c, b.cum_sum(b.exp(c), axis=1)))
    groups = Grouping(graph, Limits()).form()
    assert [sorted(node.op for node in group.members) for group in groups] == [["conv"], ["exp"], ["cum_sum"], ["add"]]
    for group in groups:
        outline(graph, group)
    graph.verify()


def test_constants_of_one_element_keep_their_layout() -> None:
    graph = Graph("case")
    x = graph.add_input("x", TensorType("int32", (1, 1, 4, 4), "NCHW16c"))
    scale = graph.add_constant(np.full((1, 1, 1, 1), 0.5, F), "scale", "NCHW16c")
    y = graph.add_node("dequantize", [x, scale, None], {}, output_layouts=["NCHW16c"]).output
    y = graph.add_node("relu", [y], {}, output_layouts=["NCHW16c"]).output
    graph.set_outputs([("y", y)])
    FuseOperators().run(graph, PassContext())
    graph.verify()
    (fused,) = graph.nodes
    body: Graph = fused.attributes["body"]
    assert [value.type.layout for value in body.constants] == ["NCHW16c"]
