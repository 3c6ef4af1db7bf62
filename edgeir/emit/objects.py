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
from dataclasses import replace
from pathlib import Path

from edgeir.compiler import Compilation
from edgeir.emit.folder import replaced_folder
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
    with replaced_folder(output, "a folder of objects", _is_ours) as workplace:
        kernels, *others = export_objects(compilation.lowered, workplace / "objects")
        size = sum(path.stat().st_size for path in (kernels, *others)) - compilation.manifest.constant_bytes
        manifest = replace(compilation.manifest, code_bytes=max(0, size))
        # An artifact around the wrong library gives manifest and golden pair their usual form.
        fresh = workplace / "new"
        artifact = Artifact.write(fresh, kernels, manifest, compilation.golden_inputs, compilation.golden_outputs)
        unlinked = artifact.manifest.with_hashes("0" * 64, artifact.manifest.golden_sha256)
        (fresh / MANIFEST).write_text(unlinked.to_text(), encoding="utf-8", newline="\n")
        os.replace(fresh / LIBRARY, fresh / KERNELS)
        for path in others:
            shutil.move(path, fresh / EXECUTABLE)
    return output


def _is_ours(names: set[str]) -> bool:
    return KERNELS in names and names <= _FILES
