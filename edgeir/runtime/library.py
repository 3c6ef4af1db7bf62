"""The TVM runtime alone: no compiler library and no `tvm` package is loaded."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.errors import ArtifactError
from edgeir.runtime.dtypes import FOUR_BITS, carrier_dtype, numpy_dtype

_CPU = 1  # DLPack's device type
_POOLED_ALLOCATOR = 2  # of the Relax virtual machine: memory freed by one run serves the next


@functools.cache
def tvm_runtime() -> Any:
    """The `tvm_ffi` module, with TVM's runtime library loaded into the process (its compiler library is not)."""
    try:
        import tvm_ffi
        from tvm_ffi.libinfo import load_lib_ctypes

        load_lib_ctypes("apache-tvm", "tvm_runtime", "RTLD_GLOBAL")
    except (ImportError, OSError, RuntimeError) as error:
        raise ArtifactError(
            "TVM's runtime library is not installed.", got=str(error), hint="pip install apache-tvm apache-tvm-ffi"
        ) from error
    return tvm_ffi


def installed_versions() -> dict[str, str]:
    """Versions of the packages that take part at run time, as far as they are installed."""
    versions = {}
    for key, package in (("edgeir", "edgeir"), ("tvm", "apache-tvm"), ("tvm_ffi", "apache-tvm-ffi")):
        try:
            versions[key] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


class Library:
    """A Relax executable, loaded and ready on a device.

    Args:
        path: the shared library. Its code is mapped here: check the machine first.
        device: DLPack's type of the device that holds its tensors; its runtime must be loaded.

    Raises:
        ArtifactError: the library cannot be loaded or has no `main`.
    """

    def __init__(self, path: Path, device: int = _CPU) -> None:
        runtime = tvm_runtime()
        try:
            # The session owns the module, so that it is unloaded with the last session that uses it.
            with _fresh_name(path) as name:
                module = runtime.load_module(name, keep_module_alive=False)
            self._machine = module["vm_load_executable"]()
            # The machine wants the CPU as its last device, for shapes and scalars.
            devices = [(kind, 0, _POOLED_ALLOCATOR) for kind in dict.fromkeys((device, _CPU))]
            self._machine["vm_initialization"](*(value for entry in devices for value in entry))
            self.main = self._machine["main"]
            self.arity = int(self._machine["get_function_arity"]("main"))
        except Exception as error:
            raise ArtifactError(
                "The artifact's library cannot be loaded.",
                where=str(path),
                expected="a Relax executable with a function main",
                got=str(error).strip(),
                hint="an older C library or a damaged file; compile the model again on or for this system",
            ) from error


@contextmanager
def _fresh_name(path: Path) -> Iterator[str]:
    """A name for a library under which this process has never loaded one.

    The dynamic linker takes a name that it knows for the file that it has, even if an artifact has been replaced there
    since. Under a new name it looks at the file itself, and still shares one that is loaded already.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="edgeir-")
        link = Path(folder.name) / path.name
        link.symlink_to(path.resolve())
    except OSError:  # no place for temporary files
        yield os.fspath(path)
        return
    with folder:
        yield os.fspath(link)


def allocate(dtype: str, shape: tuple[int, ...]) -> tuple[Any, np.ndarray]:
    """A tensor of TVM for an element type, and a numpy array over its memory, which takes arrays of that type.

    The memory is aligned as TVM's kernels assume (64 bytes).
    """
    runtime = tvm_runtime()
    allocate_tensor = runtime.get_global_func("runtime.TVMTensorAllocWithScope")
    carrier = carrier_dtype(dtype)
    tensor = allocate_tensor(runtime.Shape(shape), runtime.dtype(carrier.name), runtime.device("cpu", 0), None)
    array = np.from_dlpack(tensor)
    array[...] = 0
    # The spare bits of numpy's 4-bit integers are open, so those are assigned by value, not by their bytes.
    return tensor, array if dtype in FOUR_BITS else array.view(numpy_dtype(dtype))


def reader(dtype: str) -> Callable[[Any], np.ndarray]:
    """A function that copies a tensor of TVM that holds this element type into a numpy array of its own memory."""
    carrier, wanted = carrier_dtype(dtype), numpy_dtype(dtype)
    from_dlpack, copy = np.from_dlpack, np.array
    if carrier == wanted:
        return lambda tensor: copy(from_dlpack(tensor))
    if dtype in FOUR_BITS:
        return lambda tensor: from_dlpack(tensor).astype(wanted)
    return lambda tensor: copy(from_dlpack(tensor)).view(wanted)
