"""Fixing symbolic dimensions by giving inputs their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeir.errors import EdgeIRError
from edgeir.ir.dims import SymbolicDim, bind
from edgeir.ir.graph import Graph


def fix_shapes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """A copy of the graph in which the named inputs have these shapes.

    Args:
        graph: the graph.
        shapes: input name → sizes.

    Raises:
        EdgeIRError: no such input, another rank, a size that contradicts the input's type or another input, or a
            shape that an operator cannot take.
    """
    sizes: dict[str, int] = {}
    inputs = {value.name: value for value in graph.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            raise EdgeIRError("no such input", expected=", ".join(inputs) or "no inputs", got=name)
        value = inputs[name]
        if len(shape) != value.type.rank or any(size < 0 for size in shape):
            raise EdgeIRError("shape does not fit the input", expected=repr(value), got=list(shape))
        for dim, size in zip(value.type.shape, shape, strict=True):
            if isinstance(dim, SymbolicDim) and dim.symbols() == {str(dim)}:
                known = sizes.setdefault(str(dim), size)
                if known != size:
                    raise EdgeIRError(f"dimension {dim} gets two sizes", where=repr(value), got=f"{known} and {size}")
    for name, shape in shapes.items():
        for dim, size in zip(inputs[name].type.shape, shape, strict=True):
            if bind(dim, sizes) != size:
                raise EdgeIRError("shape does not fit the input", expected=repr(inputs[name]), got=list(shape))
    return graph.bind(sizes) if sizes else graph


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
