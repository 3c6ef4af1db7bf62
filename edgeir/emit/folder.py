"""Writing an output folder in one step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeir.errors import EdgeIRError


@contextmanager
def replaced_folder(output: Path, kind: str, is_ours: Callable[[set[str]], bool]) -> Iterator[Path]:
    """A workplace beside `output`; the folder `new` that is made in it takes the place of `output` at the end.

    Args:
        output: where the folder shall be, as an absolute path.
        kind: what the folder is, for the message.
        is_ours: whether a folder with files of these names is an earlier one, which may be replaced.

    Raises:
        EdgeIRError: the path is taken by something else.
    """
    if os.path.lexists(output) and not _may_replace(output, is_ours):
        raise EdgeIRError(
            f"The path is taken by something that is not {kind}.",
            where=str(output),
            expected="a path where nothing is, an empty folder, or such a folder to replace",
            hint="give another path, or remove it yourself",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    # A sibling is on the same file system, so that renaming it is one step.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as workplace:
        yield Path(workplace)
        if output.exists():
            os.replace(output, Path(workplace) / "old")
        os.replace(Path(workplace) / "new", output)


def _may_replace(path: Path, is_ours: Callable[[set[str]], bool]) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return not names or is_ours(names)
