"""A compiled graph as object files, not linked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.lowering.build import Lowered


def export_objects(lowered: Lowered, folder: Path) -> list[Path]:
    """Writes the object files of a compiled graph.

    Args:
        lowered: the compiled graph.
        folder: a folder to make.

    Returns:
        The object with the kernels, then the one with the Relax executable and the constants.

    Raises:
        EdgeIRError: code could not be written.
    """
    folder.mkdir(parents=True)
    kept: list[Path] = []

    def keep(_: str, objects: list[str], **__: Any) -> None:
        kept.extend(Path(shutil.copy(path, folder)) for path in objects)

    try:
        lowered.executable.export_library(str(folder / "library"), fcompile=keep)
    except (RuntimeError, OSError, AssertionError) as error:
        raise EdgeIRError("the object files could not be written", where=str(folder), got=str(error)) from error
    if len(kept) != 2:
        raise EdgeIRError(
            "code for this target does not fit into object files",
            where=f"target {lowered.target.name}",
            expected="one object of kernels and one of constants",
            got=[path.name for path in kept],
        )
    return kept
