"""Running on a CUDA device: whether one is there, and tensors to it and back."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeir.errors import ArtifactError
from edgeir.runtime.library import tvm_runtime
from edgeir.targets import Target

CUDA = 2  # DLPack's device type
_EXISTS, _COMPUTE_VERSION = 0, 4  # TVM's device attributes


def require_cuda(target: Target, where: str) -> None:
    """Make sure that this machine has a CUDA device of the target's architecture as its first.

    Raises:
        ArtifactError: it has not, or TVM's CUDA runtime cannot be loaded.
    """
    assert target.gpu is not None
    wanted = target.gpu.arch
    problem = _load_cuda_runtime()
    if problem:
        raise ArtifactError(
            f"The artifact needs a GPU of CUDA architecture {wanted}, and this machine has no usable CUDA driver.",
            where=where,
            expected=f"a GPU of architecture {wanted} (target {target.name})",
            got=problem,
            hint="compile the model for a CPU, such as --target host",
        )
    found = _device_architecture()
    if found != wanted:
        raise ArtifactError(
            f"The artifact needs a GPU of CUDA architecture {wanted}, and this machine has {found or 'no GPU'}.",
            where=where,
            expected=f"{wanted} (target {target.name})",
            got=found or "no CUDA device",
            hint=f"compile the model for cuda-{found}" if found else "compile the model for a CPU",
        )


def cuda_architecture() -> str:
    """The first CUDA device's architecture (`sm_87`); "" where there is none that can be used."""
    return "" if _load_cuda_runtime() else _device_architecture()


def _device_architecture() -> str:
    attribute = tvm_runtime().get_global_func("runtime.GetDeviceAttr")
    if not attribute(CUDA, 0, _EXISTS):
        return ""
    return f"sm_{str(attribute(CUDA, 0, _COMPUTE_VERSION)).replace('.', '')}"


def _load_cuda_runtime() -> str:
    """Load TVM's part for CUDA. Returns why it cannot be loaded, or ""."""
    tvm_runtime()
    try:
        ctypes.CDLL("libcuda.so.1", ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    try:
        from tvm_ffi.libinfo import load_lib_ctypes

        for path in _cuda_libraries():
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        load_lib_ctypes("apache-tvm", "tvm_runtime_cuda", "RTLD_GLOBAL")
    except (ImportError, OSError, RuntimeError) as error:
        return str(error)
    return ""


def _cuda_libraries() -> list[Path]:
    """CUDA's runtime library from NVIDIA's packages, which the dynamic linker does not find by itself."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    return [path for folder in folders for path in sorted(Path(folder).glob("cu*/lib/libcudart.so.*"))]


def on_device(main: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """`main` of a library on a CUDA device, as a function of tensors in the CPU's memory.

    Args:
        main: takes and returns tensors on the device.
        arguments: tensors in the CPU's memory of the inputs' types and shapes.
    """
    runtime = tvm_runtime()
    allocate = runtime.get_global_func("runtime.TVMTensorAllocWithScope")
    copy = runtime.get_global_func("runtime.TVMTensorCopyFromTo")
    device, cpu = runtime.device("cuda", 0), runtime.device("cpu", 0)
    resident = [allocate(runtime.Shape(t.shape), t.dtype, device, None) for t in arguments]

    def to_cpu(tensor: Any) -> Any:
        result = allocate(runtime.Shape(tensor.shape), tensor.dtype, cpu, None)
        copy(tensor, result)
        return result

    def run(*tensors: Any) -> Any:
        for source, target in zip(tensors, resident, strict=True):
            copy(source, target)
        result = main(*resident)
        return to_cpu(result) if hasattr(result, "dtype") else [to_cpu(tensor) for tensor in result]

    return run
