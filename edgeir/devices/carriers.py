"""Arrays as a library takes and returns them: some element types travel as integers (see `runtime.dtypes`)."""

from __future__ import annotations

import numpy as np

from edgeir.runtime.dtypes import FOUR_BITS, carrier_dtype, numpy_dtype


def to_carrier(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array of an element type as the array that crosses to a device, in C order."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    return array.astype(carrier_dtype(dtype)) if dtype in FOUR_BITS else array.view(carrier_dtype(dtype))


def from_carrier(array: np.ndarray, dtype: str) -> np.ndarray:
    """What came back from a device as an array of its element type."""
    return array.astype(numpy_dtype(dtype)) if dtype in FOUR_BITS else array.view(numpy_dtype(dtype))
