"""Linking a candidate's object file: the linker itself, which is several times faster than a compiler driver."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from tvm.support import cc

from edgeir.errors import EdgeIRError
from edgeir.lowering.linking import is_foreign, linker_for
from edgeir.targets.target import Target

Link = Callable[..., Any]


def link_function(target: Target) -> Link:
    """How to link a shared library for a target, as TVM's `export_library` takes it.

    Raises:
        EdgeIRError: there is no linker for the target.
    """
    if not is_foreign(target) and shutil.which("ld"):
        return _with_linker
    linker = linker_for(target)
    return cc.create_shared if linker is None else linker


def _with_linker(output: str, objects: Sequence[str], *_: Any, **__: Any) -> None:
    # Whatever the code calls beyond itself (libm, the TVM runtime) is in the process that loads it.
    command = ["ld", "-shared", "-o", output, *objects]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise EdgeIRError("the candidate could not be linked", where=output, got=result.stderr.strip()[:400])


_with_linker.output_format = "so"  # pyright: ignore[reportFunctionMemberAccess]
