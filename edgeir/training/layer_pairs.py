"""Which values of two networks are compared in distillation."""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Value
from edgeir.ir.dtype import FLOATS

Pair = tuple[str, str]
"""Name of a value of the student, and of one of the teacher."""


@dataclass(frozen=True)
class _Candidate:
    value: Value
    depth: float
    """Share of the graph's nodes that stand before it."""


def choose_pairs(student: Graph, teacher: Graph, count: int = 3) -> list[Pair]:
    """Pairs by shape and depth: the last feature map of each resolution, where both networks have that resolution.

    Where fewer than two resolutions are common (networks of other strides), the last maps of the student's resolutions
    are paired with the teacher's maps of the nearest relative depth. Of many pairs the deepest `count` are kept, since
    late features tell most about the task.

    Args:
        student: any graph.
        teacher: any graph.
        count: the most pairs.

    Returns:
        (student's value, teacher's value), from shallow to deep.

    Raises:
        EdgeIRError: a graph has no feature maps.
    """
    own, other = _last_of_resolutions(student), _last_of_resolutions(teacher)
    for graph, found in ((student, own), (teacher, other)):
        if not found:
            raise EdgeIRError("no feature maps to compare", where=f"graph {graph.name}", expected="values (N, C, *S)")
    common = [size for size in own if size in other]
    if len(common) >= min(2, len(own)):
        pairs = [(own[size], other[size]) for size in common]
    else:
        pairs = [(item, min(other.values(), key=lambda o: abs(o.depth - item.depth))) for item in own.values()]
    pairs.sort(key=lambda pair: pair[0].depth)
    return [(mine.value.name, theirs.value.name) for mine, theirs in pairs[-count:]]


def check_pairs(pairs: list[Pair], student: Graph, teacher: Graph) -> None:
    """Checks that the values of pairs exist.

    Raises:
        EdgeIRError: one does not.
    """
    for mine, theirs in pairs:
        student.value(mine)
        teacher.value(theirs)


def _last_of_resolutions(graph: Graph) -> dict[tuple[object, ...], _Candidate]:
    """Spatial size → the last floating-point feature map (N, C, *S) of that size, a fake-quantized one included."""
    found: dict[tuple[object, ...], _Candidate] = {}
    nodes = list(graph.nodes)
    from_inputs = set(graph.inputs)
    for position, node in enumerate(nodes):
        if not any(value in from_inputs for value in node.present_inputs):
            continue
        from_inputs.update(node.outputs)
        for value in node.outputs:
            type = value.type
            if type.dtype in FLOATS and 3 <= type.rank <= 5 and any(size != 1 for size in type.shape[2:]):
                found[type.shape[2:]] = _Candidate(value, (position + 1) / len(nodes))
    return found
