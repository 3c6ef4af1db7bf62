"""Element types: their names and their numpy forms."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from edgeir.errors import EdgeIRError

_NUMPY: dict[str, np.dtype] = {
    name: np.dtype(name)
    for name in (
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    )
}
_NUMPY |= {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in (
        "bfloat16",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "int4",
        "uint4",
    )
}

DTYPES: frozenset[str] = frozenset(_NUMPY)
"""Every element type that a tensor may have."""

FLOATS: frozenset[str] = frozenset(name for name in DTYPES if "float" in name)
SIGNED: frozenset[str] = frozenset(name for name in DTYPES if name.startswith("int"))
UNSIGNED: frozenset[str] = frozenset(name for name in DTYPES if name.startswith("uint"))
INTEGERS: frozenset[str] = SIGNED | UNSIGNED


def numpy_dtype(name: str) -> np.dtype:
    """The numpy (or ml_dtypes) dtype of that name.

    Raises:
        EdgeIRError: there is no such element type.
    """
    try:
        return _NUMPY[name]
    except KeyError:
        raise EdgeIRError("unknown element type", expected=", ".join(sorted(DTYPES)), got=name) from None


def dtype_name(dtype: np.dtype | type) -> str:
    """The IR name of a numpy dtype.

    Raises:
        EdgeIRError: tensors of that dtype cannot be expressed (strings, objects, complex numbers).
    """
    name = np.dtype(dtype).name
    if name not in _NUMPY:
        raise EdgeIRError("element type not supported", expected=", ".join(sorted(DTYPES)), got=name)
    return name


def bits(name: str) -> int:
    """Bits of one element: 4 for `int4`/`uint4`, otherwise the size in memory."""
    return 4 if name in ("int4", "uint4") else 8 * numpy_dtype(name).itemsize
