"""Fixing symbolic dimensions by giving inputs their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeir.errors import EdgeIRError
from edgeir.ir.dims import solve
from edgeir.ir.graph import Graph
from edgeir.ir.values import Value


def fix_shapes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """A copy of the graph in which the named inputs have these shapes.

    Args:
        graph: the graph.
        shapes: input name → sizes.

    Raises:
        EdgeIRError: no such input, another rank, a size that contradicts the input's type or another input, or a
            shape that an operator cannot take.
    """
    inputs = {value.name: value for value in graph.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            raise EdgeIRError("no such input", expected=", ".join(inputs) or "no inputs", got=name)
        if len(shape) != inputs[name].type.rank or any(size < 0 for size in shape):
            raise EdgeIRError("shape does not fit the input", expected=repr(inputs[name]), got=list(shape))
    sizes = symbol_sizes({inputs[name]: shape for name, shape in shapes.items()})
    return graph.bind(sizes) if sizes else graph


def symbol_sizes(shapes: Mapping[Value, Sequence[int]]) -> dict[str, int]:
    """Sizes of the symbols for which values have these shapes (of their ranks).

    Raises:
        EdgeIRError: there are none.
    """
    pairs = [pair for value, shape in shapes.items() for pair in zip(value.type.shape, shape, strict=True)]
    try:
        return solve(pairs)
    except EdgeIRError as error:
        shown = ", ".join(f"{value.name}: {list(shape)}" for value, shape in shapes.items())
        raise EdgeIRError(
            "shapes do not fit the inputs",
            expected=", ".join(map(repr, shapes)),
            got=shown,
            hint=f"{error.what}: expected {error.expected}, got {error.got}",
        ) from None


def require_static(graph: Graph) -> None:
    """Checks that no input has a symbolic dimension.

    Raises:
        EdgeIRError: some have; the hint shows how to fix them.
    """
    symbolic = [value for value in graph.inputs if not value.type.is_static]
    if symbolic:
        example = ",".join(str(d) if isinstance(d, int) else "1" for d in symbolic[0].type.shape)
        raise EdgeIRError(
            "fixed shapes are needed to compile",
            where=f"graph {graph.name!r}",
            got=", ".join(map(repr, symbolic)),
            hint=f"give each of them, for instance --shape {symbolic[0].name}={example} (shapes={{…}} in Python)",
        )
