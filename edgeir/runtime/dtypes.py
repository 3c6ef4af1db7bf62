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
# Types that numpy has only through ml_dtypes, and the integers as which a library takes and returns them.
_EXTENDED = {
    "bfloat16": "uint16",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "int4": "int8",
    "uint4": "uint8",
}

FOUR_BITS = ("int4", "uint4")
"""Types of which an element has fewer bits than its byte."""

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
    """The numpy type that libraries and `.npz` files know: the type itself, or an integer with as many bytes.

    Floats are held by their bits; a 4-bit integer takes a byte, by its value.
    """
    return np.dtype(_EXTENDED.get(name, name))
