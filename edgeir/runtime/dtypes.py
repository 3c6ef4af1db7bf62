"""Element types at run time: names, numpy types, and the types in which memory crosses between numpy and TVM."""

from __future__ import annotations

import functools

import numpy as np

_NATIVE = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
# Types that numpy has only through ml_dtypes, and whose memory DLPack hands over as unsigned integers.
_EXTENDED = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}

DTYPES: tuple[str, ...] = (*_NATIVE, *_EXTENDED)
"""Names of the element types that an artifact's inputs and outputs may have."""


@functools.cache
def numpy_dtype(name: str) -> np.dtype:
    """The numpy type of one of `DTYPES`."""
    if name in _EXTENDED:
        import ml_dtypes  # only models that use such a type pay for the import

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


def carrier_dtype(name: str) -> np.dtype:
    """The numpy type of the same size that DLPack and `.npz` files know: the type itself, or an unsigned integer."""
    return np.dtype(_EXTENDED.get(name, name))
