"""Element types and arrays of the IR as torch has them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeir.errors import EdgeIRError
from edgeir.ir.dtype import FLOATS, dtype_name, numpy_dtype

_HELD: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}
_HELD |= {name: getattr(torch, name) for name in FLOATS}
# torch computes with no 4-bit integers.
_HELD |= {"int4": torch.int8, "uint4": torch.uint8}

HALF: frozenset[str] = frozenset({"float16", "bfloat16"})
"""Types that the reference evaluator computes in float32."""

FLOAT8: frozenset[str] = frozenset(name for name in FLOATS if name.startswith("float8"))

REFERENCE_ONLY: frozenset[str] = FLOAT8 | {"uint16", "uint32", "uint64"}
"""Types that torch stores but hardly computes with."""


def held_dtype(name: str, precision: torch.dtype = torch.float32) -> torch.dtype:
    """The torch dtype that holds values of an IR element type.

    Args:
        name: the IR element type; 4-bit integers are held in 8 bits.
        precision: what stands for float32; float64 stands for every type that arithmetic is done in.
    """
    if name == "float32":
        return precision
    if name in HALF and precision == torch.float64:
        return precision
    return _HELD[name]


def to_tensor(array: np.ndarray) -> Tensor:
    """A copy of an IR array as a tensor; 4-bit integers become 8-bit ones."""
    name = dtype_name(array.dtype)
    # ascontiguousarray would make a vector of a scalar.
    array = np.array(array, order="C")
    if name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if name in FLOAT8:
        return torch.from_numpy(array.view(np.uint8)).view(_HELD[name])
    if name in ("int4", "uint4"):
        array = array.astype(np.int8 if name == "int4" else np.uint8)
    return torch.from_numpy(array)


def to_array(tensor: Tensor, name: str) -> np.ndarray:
    """A copy of a tensor as an array of an IR element type.

    Raises:
        EdgeIRError: a floating tensor stands for integers or the other way round.
    """
    held = _HELD[name]
    if tensor.is_floating_point() != held.is_floating_point:
        raise EdgeIRError("tensor has the wrong element type", expected=name, got=str(tensor.dtype))
    plain = tensor.detach().cpu().to(held).contiguous()
    if name == "bfloat16":
        return plain.view(torch.int16).numpy().view(numpy_dtype(name)).copy()
    if name in FLOAT8:
        return plain.view(torch.uint8).numpy().view(numpy_dtype(name)).copy()
    return plain.numpy().astype(numpy_dtype(name), copy=True)
