"""Arrays in the form in which kernels hold them: blocked layouts, carrier element types."""

from __future__ import annotations

import numpy as np

from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.types import TensorType, parse_layout
from edgeir.lowering.compute.storage import stored


def to_physical(array: np.ndarray, type: TensorType) -> np.ndarray:
    """A logical array as it lies in memory: blocked axes split, lanes that hold no element 0, carrier element type.

    Args:
        array: logical shape and dtype of `type`.
        type: its type.
    """
    array = stored(array)
    if not type.layout or len(type.physical_shape()) == type.rank:
        return array
    _, axis, block = parse_layout(type.layout)
    missing = -array.shape[axis] % block
    if missing:
        array = np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
    split = array.reshape(*array.shape[:axis], -1, block, *array.shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(split, axis + 1, -1))


def to_logical(array: np.ndarray, type: TensorType) -> np.ndarray:
    """The inverse of `to_physical`."""
    if type.layout and len(type.physical_shape()) > type.rank:
        _, axis, _ = parse_layout(type.layout)
        joined = np.moveaxis(array, -1, axis + 1)
        joined = joined.reshape(*joined.shape[:axis], -1, *joined.shape[axis + 2 :])
        array = np.take(joined, range(type.static_shape[axis]), axis=axis)
    array = np.ascontiguousarray(array).reshape(type.static_shape)
    wanted = numpy_dtype(type.dtype)
    return array.astype(wanted) if type.dtype in ("int4", "uint4") else array.view(wanted)
