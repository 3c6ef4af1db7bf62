"""The file in which tensors go to the C++ runner and come back; `runner/runner.cc` describes it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeir.devices.carriers import from_carrier, to_carrier
from edgeir.errors import EdgeIRError
from edgeir.runtime import TensorSpec
from edgeir.runtime.dtypes import carrier_dtype

_MAGIC = b"EDGEIRT1"


def write_tensors(path: Path, specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> None:
    """Write arrays, each of the dtype and shape of its spec, in C order."""
    with path.open("wb") as file:
        file.write(_MAGIC + struct.pack("<I", len(specs)))
        for spec, array in zip(specs, arrays, strict=True):
            carried = to_carrier(array, spec.dtype)
            name = carried.dtype.name.encode("ascii")
            head = struct.pack(f"<I{len(name)}sI{array.ndim}q", len(name), name, array.ndim, *array.shape)
            file.write(head + carried.tobytes())


def read_tensors(path: Path, specs: Sequence[TensorSpec]) -> list[np.ndarray]:
    """Read the arrays of a file.

    Args:
        path: the file.
        specs: what must be in it, in this order.

    Raises:
        EdgeIRError: the file is cut short, or holds other tensors than `specs`.
    """
    data = path.read_bytes()
    try:
        found, arrays = _parse(data)
    except (struct.error, ValueError, TypeError) as error:
        raise EdgeIRError("a device's answer is damaged", where=str(path), got=str(error)) from error
    wanted = [(carrier_dtype(spec.dtype).name, spec.shape) for spec in specs]
    if found != wanted:
        raise EdgeIRError("a device's outputs do not match the manifest", expected=wanted, got=found)
    return [from_carrier(array, spec.dtype) for array, spec in zip(arrays, specs, strict=True)]


def _parse(data: bytes) -> tuple[list[tuple[str, tuple[int, ...]]], list[np.ndarray]]:
    if not data.startswith(_MAGIC):
        raise ValueError("not a tensor file")
    (count,) = struct.unpack_from("<I", data, len(_MAGIC))
    offset = len(_MAGIC) + 4
    found, arrays = [], []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, offset)
        name = data[offset + 4 : offset + 4 + length].decode("ascii")
        offset += 4 + length
        (rank,) = struct.unpack_from("<I", data, offset)
        shape = struct.unpack_from(f"<{rank}q", data, offset + 4)
        offset += 4 + 8 * rank
        dtype = np.dtype(name)
        size = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(data, dtype, size, offset).reshape(shape).copy())
        offset += size * dtype.itemsize
        found.append((name, shape))
    if offset != len(data):
        raise ValueError(f"{len(data) - offset} bytes too many")
    return found, arrays
