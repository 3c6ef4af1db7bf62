"""Changes of element type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dtype import FLOATS, bits, numpy_dtype
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import present


def cast_array(x: np.ndarray, dtype: str, saturate: bool = True) -> np.ndarray:
    """Converts elements: numpy semantics; floats to integers truncate; to 4-bit integers the low bits are kept.

    Args:
        x: the array.
        dtype: name of the new element type.
        saturate: whether float8 results are limited to the finite range (NaN stays NaN); otherwise what is too
            large becomes infinite, or NaN where the type has no infinity (the tables of ONNX Cast).
    """
    target = numpy_dtype(dtype)
    if dtype.startswith("float8"):
        wide = x.astype(np.float32)
        if not saturate:
            return wide.astype(target)
        limit = np.float32(ml_dtypes.finfo(target).max)
        return np.clip(wide, -limit, limit).astype(target)
    if dtype in ("int4", "uint4"):
        nibble = x.astype(np.int64) & 15
        return (nibble if dtype == "uint4" else (nibble ^ 8) - 8).astype(np.int8).astype(target)
    if x.dtype.kind not in "biuf":
        # ml_dtypes convert reliably through a numpy type that holds every value.
        x = x.astype(np.int8 if "int" in x.dtype.name else np.float32)
    return x.astype(target)


@register
class Cast(Op):
    """x in another element type; see `cast_array`."""

    name = "cast"
    operands = ("x",)
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "dtype": Attribute(Kind.DTYPE),
        "saturate": Attribute(Kind.BOOL, True),
    }
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The shape of x, with `dtype`."""
        return [TensorType(attributes["dtype"], present(inputs, 0).shape)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """Converts."""
        return [cast_array(present(inputs, 0), attributes["dtype"], attributes["saturate"])]


@register
class BitCast(Op):
    """The bits of x read as another element type of the same width."""

    name = "bit_cast"
    operands = ("x",)
    attributes: ClassVar[Mapping[str, Attribute]] = {"dtype": Attribute(Kind.DTYPE)}
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The shape of x, with `dtype`."""
        x, dtype = present(inputs, 0), attributes["dtype"]
        if bits(x.dtype) != bits(dtype):
            expected = f"an element type of {bits(x.dtype)} bits for {x}"
            raise TypeInferenceError(
                "bit_cast changes the width", expected=expected, got=f"{dtype}, {bits(dtype)} bits"
            )
        return [TensorType(dtype, x.shape)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy's view."""
        x, dtype = present(inputs, 0), attributes["dtype"]
        if bits(dtype) == 4:
            return [x if x.dtype.name == dtype else cast_array(x, dtype)]
        return [x.view(numpy_dtype(dtype))]


FLOAT8: frozenset[str] = frozenset(name for name in FLOATS if name.startswith("float8"))
"""The 8-bit floating-point types."""
