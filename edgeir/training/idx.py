"""Reads IDX files, the format of MNIST and Fashion-MNIST (plain or gzipped).

Two zero bytes, a byte for the element type, a byte for the rank, the sizes as big-endian 32-bit integers, the elements.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from edgeir.errors import EdgeIRError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file.

    Raises:
        EdgeIRError: the file is missing, no IDX file, or shorter or longer than it says.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise EdgeIRError("cannot read an IDX file", where=str(path), got=str(error)) from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise EdgeIRError(
            "not an IDX file", where=str(path), expected="0 0, an element type, a rank", got=data[:4].hex()
        )
    dtype, rank = np.dtype(_TYPES[data[2]]), data[3]
    if len(data) < 4 + 4 * rank:
        raise EdgeIRError("an IDX file ends in its header", where=str(path))
    shape = struct.unpack_from(f">{rank}I", data, 4)
    size = math.prod(shape) * dtype.itemsize
    if len(data) - 4 - 4 * rank != size:
        got = len(data) - 4 - 4 * rank
        raise EdgeIRError("an IDX file has another size than it says", where=str(path), expected=size, got=got)
    array = np.frombuffer(data, dtype, offset=4 + 4 * rank).reshape(shape)
    return array.astype(dtype.newbyteorder("="))
