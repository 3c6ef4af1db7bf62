"""The kernels of a GPU as text in the language of its driver: CUDA C++, OpenCL C, Metal or WGSL.

kernels.cu, .cl, .metal or .wgsl   every kernel of the model
kernels.txt                        one line for each function of the model: the kernels' names in the text
                                   begin with it
"""

from __future__ import annotations

import os
from pathlib import Path

from edgeir.compiler import Compilation
from edgeir.errors import EdgeIRError
from edgeir.lowering.gpu import device_source

_ENDINGS = {"cuda": ".cu", "opencl": ".cl", "metal": ".metal", "webgpu": ".wgsl"}
_NAMES = "kernels.txt"


def write_source(compilation: Compilation, output: Path) -> Path:
    """Write a folder with the kernels' source; one from an earlier call is replaced.

    Raises:
        EdgeIRError: the target is no GPU, or the path is taken by something else.
    """
    target = compilation.lowered.target
    if target.kind not in _ENDINGS:
        raise EdgeIRError(
            "Kernels for a CPU have no source.",
            where=f"target {target.name}",
            expected="a target with a GPU: cuda-sm_87, opencl, metal, webgpu",
            hint="--emit c for a CPU",
        )
    output = Path(os.path.abspath(output))
    mine = {f"kernels{ending}" for ending in _ENDINGS.values()} | {_NAMES}
    if os.path.lexists(output) and not (output.is_dir() and {entry.name for entry in output.iterdir()} <= mine):
        raise EdgeIRError(
            "The path is taken by something that is not a folder of kernels.",
            where=str(output),
            hint="give another path, or remove it yourself",
        )
    output.mkdir(parents=True, exist_ok=True)
    for old in output.iterdir():
        old.unlink()
    (output / f"kernels{_ENDINGS[target.kind]}").write_text(device_source(compilation.lowered.executable), "utf-8")
    (output / _NAMES).write_text("".join(f"{name}\n" for name in compilation.lowered.calls), "utf-8")
    return output
