"""What is different about a graph compiled for a GPU: every function bound to threads, device code embedded."""

from __future__ import annotations

import warnings
from typing import Any

import tvm

from edgeir.errors import EdgeIRError
from edgeir.lowering.cuda_binary import compile_cuda, device_modules, nvrtc_missing, pack_with_binary
from edgeir.schedules.gpu_stages import schedule_for_gpu
from edgeir.targets.target import Target


def bound_functions(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """The module with functions that no template has scheduled (copies of results) bound to blocks and threads."""
    for variable, function in list(module.functions_items()):
        if isinstance(function, tvm.tirx.PrimFunc) and "thread_binding" not in function.script():
            module.update_func(variable, schedule_for_gpu(function, target))
    return module


def device_source(executable: Any) -> str:
    """The kernels' source in the target's language, as it is handed to the device's compiler."""
    return "\n".join(module.inspect_source() for module in device_modules(executable.mod))


def export_options(executable: Any, target: Target) -> dict[str, Any]:
    """Arguments for `export_library` that embed machine code for the GPU.

    CUDA source is embedded where NVRTC is missing or too new for the architecture, with a warning: the device must
    then have an NVRTC that knows it.

    Raises:
        EdgeIRError: the target's language is offered as source only, or NVRTC refuses the kernels.
    """
    if target.gpu is None or not device_modules(executable.mod):
        return {}
    if target.kind != "cuda":
        raise EdgeIRError(
            f"There is no artifact for {target.kind}: its kernels are offered as source only.",
            where=f"target {target.name}",
            hint="edgeir compile --emit source",
        )
    missing = nvrtc_missing(target.gpu.arch)
    if missing:
        warnings.warn(
            f"{missing} The artifact holds CUDA source, which the device compiles when it loads it.",
            RuntimeWarning,
            stacklevel=4,
        )
        return {}
    return {"fpack_imports": pack_with_binary(compile_cuda(device_source(executable), target.gpu.arch))}
