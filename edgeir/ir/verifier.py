"""The invariants of the IR, as a table of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edgeir.errors import EdgeIRError, VerificationError
from edgeir.ir.graph import Graph
from edgeir.ir.inference import infer_types
from edgeir.ir.op import Kind
from edgeir.ir.values import Node, Value


def _structure(graph: Graph, node: Node, seen: set[Value]) -> Iterator[str]:
    if node._graph is not graph:
        yield "the node does not know its graph"
    for value in node.present_inputs:
        if value not in seen:
            yield f"operand %{value.name} is not computed before it is used"


def _use_lists(graph: Graph, node: Node, seen: set[Value]) -> Iterator[str]:
    for position, value in enumerate(node.inputs):
        if value is not None and (node, position) not in value._uses:
            yield f"%{value.name} does not list this use of it (operand {position})"
    for position, value in enumerate(node.outputs):
        if value.producer is not node or value.index != position:
            yield f"output %{value.name} does not know its producer"
        yield from _value(graph, value)


def _value(graph: Graph, value: Value) -> Iterator[str]:
    for user, operand in value.uses:
        if user._graph is not graph or operand >= len(user.inputs) or user.inputs[operand] is not value:
            yield f"%{value.name} lists a use that is not there: {user}, operand {operand}"
    if graph._names.get(value.name) is not value:
        yield f"%{value.name} is not registered under its name"


def _attributes(graph: Graph, node: Node, seen: set[Value]) -> Iterator[str]:
    operator = node.definition
    operator.check_arity(node.inputs)
    canonical = operator.normalize(node.attributes)
    if canonical != dict(node.attributes) or any(_kinds(canonical[k]) != _kinds(v) for k, v in node.attributes.items()):
        yield "attributes are not in canonical form"
    for key, spec in operator.attributes.items():
        if spec.kind is Kind.GRAPH and node.attributes[key] is not None:
            verify(node.attributes[key])


def _kinds(value: Any) -> list[type]:
    """The Python types of an attribute value; 1, 1.0 and numpy's 1 are equal, but print differently."""
    return [type(value), *map(type, value)] if isinstance(value, tuple) else [type(value)]


def _types(graph: Graph, node: Node, seen: set[Value]) -> Iterator[str]:
    layouts = [value.type.layout for value in node.outputs]
    inferred = infer_types(node.definition, node.inputs, node.attributes, layouts)
    if len(node.outputs) != len(inferred):
        yield f"{len(node.outputs)} results, inferred {len(inferred)}"
        return
    for value, expected in zip(node.outputs, inferred, strict=True):
        if value.type != expected:
            yield f"%{value.name} has type {value.type}, inferred {expected}"


CHECKS: dict[str, Callable[[Graph, Node, set[Value]], Iterator[str]]] = {
    "dominance": _structure,
    "use lists": _use_lists,
    "attributes and arity": _attributes,
    "types": _types,
}


def verify(graph: Graph) -> None:
    """Checks every invariant of a graph and of the bodies in it.

    Raises:
        VerificationError: one is broken; the message names the check and the node.
    """
    seen: set[Value] = set(graph.inputs) | set(graph.constants)
    count = 0
    for node in graph.nodes:
        for name, check in CHECKS.items():
            try:
                problem = next(check(graph, node, seen), None)
            except EdgeIRError as error:
                problem = str(error)
            if problem is not None:
                raise VerificationError(f"graph {graph.name!r} is not valid ({name})", where=str(node), got=problem)
        seen.update(node.outputs)
        count += 1
    if count != len(graph):
        raise VerificationError(f"graph {graph.name!r} miscounts its nodes", expected=count, got=len(graph))
    for value in (*graph.inputs, *graph.constants):
        problem = next(_value(graph, value), None)
        if problem is not None:
            raise VerificationError(f"graph {graph.name!r} is not valid (use lists)", where=repr(value), got=problem)
    if len(set(graph.output_names)) != len(graph.output_names):
        raise VerificationError("two outputs have one name", got=", ".join(graph.output_names))
    for constant in graph.constants:
        plain = constant.type.with_layout("")
        if constant.data.shape != plain.shape or constant.data.dtype.name != plain.dtype:
            raise VerificationError("constant differs from its type", where=repr(constant), got=constant.data.dtype)
    output_uses: dict[Value, int] = {}
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        output_uses[value] = output_uses.get(value, 0) + 1
        if value not in seen:
            raise VerificationError("graph returns a value that it does not compute", where=name, got=repr(value))
    for value in seen:
        if value._output_uses != output_uses.get(value, 0):
            raise VerificationError("output uses are miscounted", where=repr(value))
