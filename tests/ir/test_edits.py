"""Edits: they keep every invariant, or refuse and leave the graph as it was."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, TensorType, print_graph
from edgeir.ir.evaluate import evaluate
from tests.ir.test_verifier import chain, node
from tests.strategies import assert_outputs_close, graphs, random_inputs


def foreign() -> Graph:
    builder = Builder("other")
    x = builder.input("x", "float32[2, 3]")
    return builder.outputs(y=builder.relu(x, name="r"))


REFUSED: dict[str, Callable[[Graph], object]] = {
    "unknown operator": lambda g: g.add_node("no_such_op", [g.value("x")]),
    "too many operands": lambda g: g.add_node("relu", [g.value("x"), g.value("x")]),
    "too few operands": lambda g: g.add_node("add", [g.value("x")]),
    "absent operand": lambda g: g.add_node("add", [g.value("x"), None]),
    "unknown attribute": lambda g: g.add_node("relu", [g.value("x")], {"alpha": 1.0}),
    "missing attribute": lambda g: g.add_node("softmax", [g.value("x")]),
    "wrong attribute": lambda g: g.add_node("softmax", [g.value("x")], {"axis": "1"}),
    "impossible attribute": lambda g: g.add_node("softmax", [g.value("x")], {"axis": 2}),
    "operand of another graph": lambda g: g.add_node("relu", [foreign().value("x")]),
    "operand after the node": lambda g: g.add_node("relu", [g.value("b")], before=node(g, "a")),
    "before a foreign node": lambda g: g.add_node("relu", [g.value("x")], before=node(foreign(), "r")),
    "input name taken": lambda g: g.add_input("a", TensorType("float32", ())),
    "input without a name": lambda g: g.add_input("", TensorType("float32", ())),
    "constant of strings": lambda g: g.add_constant(np.array(["a"])),
    "constant of complex numbers": lambda g: g.add_constant(np.zeros(2, np.complex64)),
    "rename to a taken name": lambda g: g.rename(g.value("a"), "b"),
    "rename a foreign value": lambda g: g.rename(foreign().value("x"), "new"),
    "outputs with one name": lambda g: g.set_outputs([("y", g.value("a")), ("y", g.value("b"))]),
    "output of another graph": lambda g: g.set_outputs({"y": foreign().value("r")}),
    "set an input that is not there": lambda g: g.set_input(node(g, "a"), 1, g.value("x")),
    "set a later operand": lambda g: g.set_input(node(g, "a"), 0, g.value("b")),
    "set itself as operand": lambda g: g.set_input(node(g, "a"), 0, g.value("a")),
    "set an operand of another type": lambda g: g.set_input(node(g, "a"), 0, g.constants[0]),
    "set a foreign operand": lambda g: g.set_input(node(g, "a"), 0, foreign().value("x")),
    "drop an operand": lambda g: g.set_inputs(node(g, "b"), [g.value("a")]),
    "edit a foreign node": lambda g: g.set_inputs(node(foreign(), "r"), [g.value("x")]),
    "set bad attributes": lambda g: g.set_attributes(node(g, "c"), {"axis": 5}),
    "set unknown attributes": lambda g: g.set_attributes(node(g, "c"), {"axis": 1, "more": 1}),
    "replace by another type": lambda g: g.replace_all_uses(g.value("a"), g.constants[0]),
    "replace by a later value": lambda g: g.replace_all_uses(g.value("a"), g.value("c")),
    "replace by a user of it": lambda g: g.replace_all_uses(g.value("a"), g.value("b")),
    "replace by a foreign value": lambda g: g.replace_all_uses(g.value("a"), foreign().value("r")),
    "erase a used node": lambda g: g.erase(node(g, "b")),
    "erase an output": lambda g: g.erase(node(g, "c")),
    "erase a foreign node": lambda g: g.erase(node(foreign(), "r")),
    "replace by too few values": lambda g: g.replace_node(node(g, "a"), []),
    "replace node by another type": lambda g: g.replace_node(node(g, "a"), [g.constants[0]]),
    "replace node by its user": lambda g: g.replace_node(node(g, "a"), [g.value("b")]),
    "move before an operand": lambda g: g.move_before(node(g, "b"), node(g, "a")),
    "move behind a user": lambda g: g.move_before(node(g, "a"), node(g, "c")),
    "remove a used input": lambda g: g.remove_input(g.value("x")),
    "remove what is no input": lambda g: g.remove_input(g.value("a")),
    "value that is not there": lambda g: g.value("nothing"),
}


def state(graph: Graph) -> tuple[object, ...]:
    """Everything that an edit could change."""
    values = [*graph.inputs, *graph.constants, *(value for n in graph.nodes for value in n.outputs)]
    uses = [(v.name, v.uses, v.is_output, v._output_uses) for v in values]
    names = sorted((name, id(value)) for name, value in graph._names.items())
    return print_graph(graph), graph.version, len(graph), uses, names, [id(n) for n in graph.nodes]


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED.keys())
def test_refused_edits_change_nothing(edit: Callable[[Graph], object]) -> None:
    graph = chain()
    events: list[str] = []
    graph.listen(lambda event, _: events.append(event))
    before = state(graph)
    with pytest.raises(EdgeIRError):
        edit(graph)
    assert state(graph) == before
    assert not events
    graph.verify()


def test_replacing_a_node_by_a_new_one() -> None:
    graph = chain()
    inputs = random_inputs(graph)
    expected = evaluate(graph, inputs)
    old = node(graph, "a")
    zero = graph.add_constant(np.array(0, np.float32))
    new = graph.add_node("maximum", [graph.value("x"), zero], before=old)
    graph.replace_node(old, [new.output])
    graph.verify()
    assert not old.is_alive
    assert_outputs_close(evaluate(graph, inputs), expected)
    with pytest.raises(EdgeIRError, match="no value"):
        graph.value("a")


def test_replacing_outputs_keeps_their_names() -> None:
    graph = chain()
    graph.replace_all_uses(graph.value("a"), graph.value("x"))
    graph.verify()
    assert graph.output_names == ("y", "z")
    assert graph.outputs[1] is graph.value("x")
    graph.erase(node(graph, "a"))
    graph.verify()


def test_iteration_survives_erasure_and_insertion() -> None:
    builder = Builder()
    value = builder.input("x", "float32[2]")
    for _ in range(6):
        value = builder.relu(value)
    graph = builder.outputs(y=value)
    seen = []
    for current in graph.nodes:
        seen.append(current.op)
        if current.op == "relu":
            new = graph.add_node("abs", [current.input(0)], before=current)
            follower = graph.add_node("neg", [current.input(0)], before=current._next)
            graph.replace_node(current, [new.output])
            graph.replace_all_uses(new.output, new.input(0)) if new.input(0).is_input else None
            assert not follower.output.is_used
    graph.verify()
    # Every relu was visited; what was inserted behind the current node was visited too.
    assert seen.count("relu") == 6
    assert seen.count("neg") == 6
    for current in graph.reversed_nodes:
        if not current.output.is_used:
            graph.erase(current)
    graph.verify()


def test_erasing_the_next_nodes_while_iterating() -> None:
    builder = Builder()
    x = builder.input("x", "float32[2]")
    values = [builder.relu(x) for _ in range(5)]
    graph = builder.outputs(y=values[0], z=values[4])
    visited = []
    for current in graph.nodes:
        visited.append(current)
        for value in values[1:4]:
            if value.producer is not None and value.producer.is_alive:
                graph.erase(value.producer)
    assert [n.output for n in visited] == [values[0], values[4]]
    graph.verify()


def test_many_insertions_at_one_place_renumber() -> None:
    builder = Builder()
    x = builder.input("x", "float32[2]")
    last = builder.relu(x)
    graph = builder.outputs(y=last)
    assert last.producer is not None
    before = last.producer
    for _ in range(300):
        before = graph.add_node("abs", [x], before=before)
    graph.verify()
    nodes = list(graph.nodes)
    assert all(graph.comes_before(a, b) for a, b in itertools.pairwise(nodes))


def test_moving_keeps_the_order_valid() -> None:
    builder = Builder()
    x = builder.input("x", "float32[2]")
    a, b, c = builder.relu(x, name="a"), builder.abs(x, name="b"), builder.neg(x, name="c")
    graph = builder.outputs(y=builder.add(a, builder.add(b, c)))
    graph.move_before(node(graph, "c"), node(graph, "a"))
    graph.verify()
    assert [n.output.name for n in graph.nodes][:3] == ["c", "a", "b"]


@given(graphs(), st.data())
def test_random_edits_keep_the_graph_valid(graph: Graph, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 6))):
        values = [*graph.inputs, *graph.constants, *(value for n in graph.nodes for value in n.outputs)]
        nodes = list(graph.nodes)
        old, new = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
        before = state(graph)
        try:
            match data.draw(st.sampled_from(["replace", "erase", "move", "rename"])):
                case "replace":
                    graph.replace_all_uses(old, new)
                case "erase" if nodes:
                    graph.erase(data.draw(st.sampled_from(nodes)))
                case "move" if nodes:
                    graph.move_before(data.draw(st.sampled_from(nodes)), data.draw(st.sampled_from(nodes)))
                case _:
                    graph.rename(old, data.draw(st.sampled_from(["p", "q", new.name])))
        except EdgeIRError:
            assert state(graph) == before
        graph.verify()
    evaluate(graph, random_inputs(graph))


@given(graphs())
def test_copies_are_equal_and_independent(graph: Graph) -> None:
    text, copied = print_graph(graph), graph.copy()
    assert print_graph(copied) == text
    copied.verify()
    for current in copied.reversed_nodes:
        if not any(value.is_used for value in current.outputs):
            copied.erase(current)
    copied.set_outputs([])
    assert print_graph(graph) == text
    graph.verify()


def test_listeners_hear_edits_until_they_stop() -> None:
    graph = chain()
    events: list[tuple[str, str]] = []
    stop = graph.listen(lambda event, n: events.append((event, n.op)))
    new = graph.add_node("abs", [graph.value("x")])
    graph.set_input(node(graph, "b"), 0, graph.value("x"))
    graph.erase(new)
    stop()
    graph.add_node("abs", [graph.value("x")])
    assert events == [("insert", "abs"), ("change", "add"), ("erase", "abs")]


def test_constants_are_read_only() -> None:
    array = np.zeros(3, np.float32)
    constant = Graph().add_constant(array)
    with pytest.raises(ValueError, match="read-only"):
        constant.data[0] = 1
    array[0] = 2  # the caller's own array stays writeable
