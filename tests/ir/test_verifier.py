"""The verifier finds every kind of corruption. The graphs are broken by hand, behind the checked methods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeir.errors import VerificationError
from edgeir.ir import Builder, Graph, Node, TensorType
from tests.ir.test_text import fused_graph


def chain() -> Graph:
    builder = Builder("chain")
    x = builder.input("x", "float32[2, 3]")
    a = builder.relu(x, name="a")
    b = builder.add(a, np.ones((3,), np.float32), name="b")
    c = builder.softmax(b, axis=1, name="c")
    return builder.outputs(y=c, z=a)


def node(graph: Graph, name: str) -> Node:
    producer = graph.value(name).producer
    assert producer is not None
    return producer


def swapped_order(graph: Graph) -> None:
    first = node(graph, "a")
    graph._order.remove(first)
    graph._order.insert(first, None)


def foreign_operand(graph: Graph) -> None:
    other = Builder("other").input("x", "float32[2, 3]")
    node(graph, "a")._inputs = (other,)
    other._uses[(node(graph, "a"), 0)] = None


def wrong_owner(graph: Graph) -> None:
    node(graph, "b")._graph = Graph()


def lost_use(graph: Graph) -> None:
    graph.value("a")._uses.clear()


def lost_use_of_input(graph: Graph) -> None:
    graph.value("x")._uses.clear()


def lost_use_of_constant(graph: Graph) -> None:
    graph.constants[0]._uses.clear()


def invented_use(graph: Graph) -> None:
    graph.value("a")._uses[(node(graph, "c"), 0)] = None


def invented_use_of_input(graph: Graph) -> None:
    graph.value("x")._uses[(node(graph, "c"), 0)] = None


def wrong_position(graph: Graph) -> None:
    graph.value("b").index = 1


def wrong_producer(graph: Graph) -> None:
    graph.value("b").producer = node(graph, "a")


def lost_name(graph: Graph) -> None:
    del graph._names["b"]


def lost_name_of_input(graph: Graph) -> None:
    del graph._names["x"]


def renamed(graph: Graph) -> None:
    graph.value("b").name = "other"


def wrong_shape(graph: Graph) -> None:
    graph.value("b").type = TensorType("float32", (2, 4))


def wrong_dtype(graph: Graph) -> None:
    graph.value("c").type = TensorType("float64", (2, 3))


def wrong_layout(graph: Graph) -> None:
    graph.value("c").type = TensorType("float32", (2, 3), "NC8c")


def changed_input_type(graph: Graph) -> None:
    graph.value("x").type = TensorType("float32", (5, 3))


def changed_constant_type(graph: Graph) -> None:
    constant = graph.constants[0]
    constant.type = TensorType("float32", (1,))


def missing_attribute(graph: Graph) -> None:
    node(graph, "c").attributes = {}


def unknown_attribute(graph: Graph) -> None:
    node(graph, "a").attributes = {"alpha": 1.0}


def wrong_attribute_kind(graph: Graph) -> None:
    node(graph, "c").attributes = {"axis": 1.0}


def attribute_not_canonical(graph: Graph) -> None:
    node(graph, "c").attributes = {"axis": np.int64(1)}


def impossible_attribute(graph: Graph) -> None:
    node(graph, "c").attributes = {"axis": 7}


def too_few_operands(graph: Graph) -> None:
    broken = node(graph, "b")
    del graph.constants[0]._uses[(broken, 1)]
    broken._inputs = broken._inputs[:1]


def unknown_operator(graph: Graph) -> None:
    node(graph, "a").op = "no_such_op"


def too_few_results(graph: Graph) -> None:
    node(graph, "c").outputs = ()


def foreign_output(graph: Graph) -> None:
    graph._outputs.append(("other", Builder("other").input("x", "float32[1]")))


def miscounted_output(graph: Graph) -> None:
    graph.value("a")._output_uses = 2


def miscounted_output_of_input(graph: Graph) -> None:
    graph.value("x")._output_uses = 1


def duplicate_output_name(graph: Graph) -> None:
    graph._outputs.append(("y", graph.value("c")))
    graph.value("c")._output_uses += 1


def miscounted_nodes(graph: Graph) -> None:
    graph._order._count += 1


CORRUPTIONS: tuple[Callable[[Graph], None], ...] = (
    swapped_order,
    foreign_operand,
    wrong_owner,
    lost_use,
    lost_use_of_input,
    lost_use_of_constant,
    invented_use,
    invented_use_of_input,
    wrong_position,
    wrong_producer,
    lost_name,
    lost_name_of_input,
    renamed,
    wrong_shape,
    wrong_dtype,
    wrong_layout,
    changed_input_type,
    changed_constant_type,
    missing_attribute,
    unknown_attribute,
    wrong_attribute_kind,
    attribute_not_canonical,
    impossible_attribute,
    too_few_operands,
    unknown_operator,
    too_few_results,
    foreign_output,
    miscounted_output,
    miscounted_output_of_input,
    duplicate_output_name,
    miscounted_nodes,
)


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda function: function.__name__)
def test_corruption_is_found(corrupt: Callable[[Graph], None]) -> None:
    graph = chain()
    graph.verify()
    corrupt(graph)
    with pytest.raises(VerificationError):
        graph.verify()


def test_message_names_the_node() -> None:
    graph = chain()
    graph.value("b").type = TensorType("float32", (9,))
    with pytest.raises(VerificationError, match=r"%b = add"):
        graph.verify()


def test_corruption_inside_a_body_is_found() -> None:
    graph = fused_graph()
    body: Graph = next(graph.nodes).attributes["body"]
    body.outputs[0].type = TensorType("float32", (7,))
    with pytest.raises(VerificationError):
        graph.verify()
