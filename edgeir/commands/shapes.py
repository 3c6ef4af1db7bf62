"""The option `--shape`, which several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeir.errors import EdgeIRError

ShapeOption = Annotated[
    list[str] | None, typer.Option("--shape", help="Fix an input's shape: NAME=1,3,320,320 (repeat for several).")
]


def parse_shapes(options: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    """`["x=1,3,8,8"]` → `{"x": (1, 3, 8, 8)}`; None where there are none.

    Raises:
        EdgeIRError: an option is not of that form, or names an input again.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for option in options or []:
        name, equals, sizes = option.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(",") if size.strip())
        except ValueError:
            shape = ()
            equals = ""
        if not equals or not name or any(size < 0 for size in shape):
            raise EdgeIRError("not a shape", where="--shape", expected="NAME=1,3,320,320", got=option)
        if name in shapes:
            raise EdgeIRError("an input's shape is given twice", where="--shape", got=option)
        shapes[name] = shape
    return shapes or None
