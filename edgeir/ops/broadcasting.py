"""numpy broadcasting of shapes with symbolic dimensions."""

from __future__ import annotations

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim

Shape = tuple[Dim, ...]


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that numpy broadcasting gives.

    Dimensions broadcast if they are equal (as expressions) or one of them is 1. A symbol against an integer above 1,
    or two different symbols, do not: nothing says that they will be equal.

    Raises:
        TypeInferenceError: the shapes do not broadcast.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        offset = rank - len(shape)
        for axis, dim in enumerate(shape, start=offset):
            if result[axis] == 1:
                result[axis] = dim
            elif dim != 1 and dim != result[axis]:
                symbolic = not (isinstance(dim, int) and isinstance(result[axis], int))
                raise TypeInferenceError(
                    "shapes do not broadcast",
                    expected="equal dimensions, or 1",
                    got=f"{result[axis]} and {dim} at axis {axis} of {', '.join(map(format_shape, shapes))}",
                    hint="fix symbolic dimensions with shapes=…" if symbolic else None,
                )
    return tuple(result)


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether `shape` broadcasts to exactly `target`."""
    if len(shape) > len(target):
        return False
    return all(d == 1 or d == t for d, t in zip(shape[::-1], target[::-1], strict=False))


def format_shape(shape: Shape) -> str:
    """`[N, 3, 224]`."""
    return f"[{', '.join(map(str, shape))}]"
