"""CUDA source to machine code for a GPU that need not be there, by NVIDIA's runtime compiler (NVRTC)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
from pathlib import Path
from typing import Any

import tvm_ffi

from edgeir.errors import EdgeIRError

INSTALL = "pip install edgeir[cuda]"


def nvrtc_missing(arch: str) -> str:
    """What NVRTC lacks on this machine to compile for an architecture, as one sentence; "" where it can."""
    try:
        found = importlib.util.find_spec("cuda.bindings.nvrtc")
    except ImportError:
        found = None
    if found is None:
        return f"NVRTC is not installed, so CUDA code cannot be compiled to machine code ({INSTALL})."
    if _toolkit() is None:
        return "NVRTC is installed without CUDA's headers, so CUDA code cannot be compiled to machine code."
    nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    _, known = nvrtc.nvrtcGetSupportedArchs()
    if arch.removeprefix("sm_") not in map(str, known):
        return f"The installed NVRTC does not compile for {arch} (it knows {', '.join(f'sm_{n}' for n in known)})."
    return ""


def _toolkit() -> Path | None:
    """The folder with CUDA's headers: `CUDA_PATH`, or that of NVIDIA's packages."""
    candidates = [Path(path) for path in [os.environ.get("CUDA_PATH", "")] if path]
    spec = importlib.util.find_spec("nvidia")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        candidates += sorted(Path(location).glob("cu[0-9]*"), reverse=True)
    return next((path for path in candidates if (path / "include" / "cuda_fp16.h").is_file()), None)


def compile_cuda(source: str, arch: str, target_format: str = "cubin") -> bytes:
    """Machine code of CUDA source.

    Args:
        source: CUDA C++ as TVM writes it.
        arch: `sm_87`.
        target_format: `cubin`, or `ptx` for an assembly text that the driver translates.

    Raises:
        EdgeIRError: NVRTC is missing, does not know the architecture, or refuses the source.
    """
    missing, toolkit = nvrtc_missing(arch), _toolkit()
    if missing or toolkit is None:
        raise EdgeIRError(missing, hint=INSTALL)
    from tvm.support import nvcc

    previous = os.environ.get("CUDA_PATH")
    os.environ["CUDA_PATH"] = str(toolkit)  # TVM's helper looks for headers there
    try:
        include = f"-I{toolkit / 'include' / 'cccl'}"
        return bytes(
            nvcc.compile_cuda(source, target_format=target_format, arch=arch, compiler="nvrtc", options=[include])
        )
    except RuntimeError as error:
        raise EdgeIRError(
            "NVRTC refuses the kernels' source.", where=f"CUDA architecture {arch}", details=str(error).strip()
        ) from error
    finally:
        if previous is None:
            del os.environ["CUDA_PATH"]
        else:
            os.environ["CUDA_PATH"] = previous


def pack_with_binary(binary: bytes) -> Any:
    """The `fpack_imports` of `export_library`: packs the imported modules with machine code instead of CUDA source.

    TVM without a CUDA driver can only store source. Its record of a CUDA module is a format name, a table of kernels
    and the code, each string with its length before it; `cubin` as the format makes the driver load the code as it is.

    Args:
        binary: a cubin of the module's source.
    """

    def pack(module: Any, is_system_lib: bool, prefix: str, workspace: str) -> str:
        blob = bytes(tvm_ffi.get_global_func("runtime.ModulePackImportsToTensor")(module).numpy().tobytes())
        for source in _sources(module):
            blob = _with_binary(blob, source.encode(), binary)
        data, assembly = Path(workspace) / f"{prefix}imports.bin", Path(workspace) / f"{prefix}devc.s"
        data.write_bytes(blob)
        symbol = f"{prefix}{tvm_ffi.get_global_func('runtime.ModuleImportsBlobName')()}"
        assembly.write_text(
            f'.section .rodata\n.globl {symbol}\n.balign 16\n{symbol}:\n.incbin "{data}"\n'
            '.section .note.GNU-stack,"",%progbits\n',
            encoding="utf-8",
        )
        return str(assembly)

    return pack


def device_modules(module: Any) -> list[Any]:
    """The modules of device code that a host module imports, at any depth."""
    found = []
    for imported in module.imports:
        found += [imported] if imported.kind in ("cuda", "opencl", "metal", "webgpu") else device_modules(imported)
    return found


def _sources(module: Any) -> list[str]:
    return [device.inspect_source() for device in device_modules(module) if device.kind == "cuda"]


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _with_binary(blob: bytes, source: bytes, binary: bytes) -> bytes:
    """The packed modules with the record of one CUDA module rewritten."""
    kind = _string(b"cuda")
    start, code, record, size = blob.find(kind), blob.rfind(_string(source)), 0, 0
    while start >= 0:
        record = start + len(kind) + 8
        size = int.from_bytes(blob[start + len(kind) : record], "little")
        # The same eight bytes may stand in a weight: a record's own kind, length and code must all fit.
        if blob.startswith(kind, record) and code + 8 + len(source) == record + size:
            break
        start = blob.find(kind, start + 1)
    if start < 0:
        raise EdgeIRError("TVM packs CUDA modules in another form than this version of EdgeIR knows.")
    table = blob[record + len(kind) : code]
    changed = _string(_string(b"cubin") + table + _string(binary))
    return _string(blob[8 : start + len(kind)] + changed + blob[record + size :])
