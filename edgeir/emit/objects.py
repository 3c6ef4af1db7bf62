"""Object files, for a linker of the user's own.

    kernels.o      the kernels, each a function `__tvm_ffi_<name>` of TVM's C calling convention
    executable.o   the Relax executable and the constants
    manifest.json  as in an artifact; its hash of the library is 0, because there is none yet
    golden.npz     as in an artifact

`CC -shared -o model.so kernels.o executable.o` makes the library that TVM's runtime loads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from edgeir.compiler import Compilation
from edgeir.errors import EdgeIRError
from edgeir.lowering.objects import export_objects
from edgeir.runtime import Artifact
from edgeir.runtime.artifact import GOLDEN, LIBRARY, MANIFEST

KERNELS, EXECUTABLE = "kernels.o", "executable.o"
_FILES = frozenset((KERNELS, EXECUTABLE, MANIFEST, GOLDEN))


def write_objects(compilation: Compilation, output: Path) -> Path:
    """Write a folder of objects; one from an earlier call is replaced.

    Raises:
        EdgeIRError: the path is taken by something else.
    """
    output = Path(os.path.abspath(output))
    if os.path.lexists(output) and not _may_replace(output):
        raise EdgeIRError(
            "The path is taken by something that is not a folder of objects.",
            where=str(output),
            expected="a path where nothing is, an empty folder, or a folder of objects to replace",
            hint="give another path, or remove it yourself",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        kernels, *others = export_objects(compilation.lowered, Path(folder) / "objects")
        size = sum(path.stat().st_size for path in (kernels, *others)) - compilation.manifest.constant_bytes
        manifest = replace(compilation.manifest, code_bytes=max(0, size))
        # An artifact around the wrong library gives manifest and golden pair their usual form.
        fresh = Path(folder) / "new"
        artifact = Artifact.write(fresh, kernels, manifest, compilation.golden_inputs, compilation.golden_outputs)
        unlinked = artifact.manifest.with_hashes("0" * 64, artifact.manifest.golden_sha256)
        (fresh / MANIFEST).write_text(unlinked.to_text(), encoding="utf-8", newline="\n")
        os.replace(fresh / LIBRARY, fresh / KERNELS)
        for path in others:
            shutil.move(path, fresh / EXECUTABLE)
        if output.exists():
            os.replace(output, Path(folder) / "old")
        os.replace(fresh, output)
    return output


def _may_replace(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return not names or (KERNELS in names and names <= _FILES)
