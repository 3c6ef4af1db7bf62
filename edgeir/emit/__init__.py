"""Other forms than an artifact in which a compiled model is written: `--emit NAME`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeir.compiler import Compilation
from edgeir.emit.c import write_c
from edgeir.emit.objects import write_objects
from edgeir.emit.source import write_source

EMITTERS: dict[str, Callable[[Compilation, Path], Path]] = {
    "c": write_c,
    "object": write_objects,
    "source": write_source,
}
"""Name of a form → what writes it: takes a compilation and the folder to make, and returns the folder."""

__all__ = ["EMITTERS", "write_c", "write_objects", "write_source"]
