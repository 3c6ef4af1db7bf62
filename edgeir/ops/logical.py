"""Comparison, logic and bits of elements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from edgeir.ir.op import Attribute, Kind, register
from edgeir.ops.elementwise import Binary, Unary, define
from edgeir.ops.operands import ARITHMETIC_FLOATS, ARITHMETIC_INTEGERS, NUMERIC

_COMPARABLE = NUMERIC | {"bool"}

for _name, _function, _doc in (
    ("equal", np.equal, "a = b, as bool."),
    ("less", np.less, "a < b, as bool."),
    ("less_equal", np.less_equal, "a ≤ b, as bool."),
    ("greater", np.greater, "a > b, as bool."),
    ("greater_equal", np.greater_equal, "a ≥ b, as bool."),
):
    define(Binary, _name, _function, _COMPARABLE, _doc, result_dtype="bool")

for _name, _function, _doc in (
    ("logical_and", np.logical_and, "Both a and b."),
    ("logical_or", np.logical_or, "a or b or both."),
    ("logical_xor", np.logical_xor, "Exactly one of a and b."),
):
    define(Binary, _name, _function, {"bool"}, _doc)
define(Unary, "logical_not", np.logical_not, {"bool"}, "Not x.")

for _name, _function, _doc in (
    ("bitwise_and", np.bitwise_and, "Bits set in both a and b."),
    ("bitwise_or", np.bitwise_or, "Bits set in a or b."),
    ("bitwise_xor", np.bitwise_xor, "Bits set in exactly one of a and b."),
):
    define(Binary, _name, _function, ARITHMETIC_INTEGERS, _doc)
define(Unary, "bitwise_not", np.bitwise_not, ARITHMETIC_INTEGERS, "All bits of x inverted.")


def _shift_left(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.left_shift(a, b.astype(a.dtype))


def _shift_right(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.right_shift(a, b.astype(a.dtype))


for _name, _function, _doc in (
    ("shift_left", _shift_left, "a shifted by b bits towards the most significant one, 0 ≤ b < width; dtype of a."),
    ("shift_right", _shift_right, "a shifted by b bits towards the least significant one, 0 ≤ b < width; dtype of a."),
):
    define(Binary, _name, _function, ARITHMETIC_INTEGERS, _doc, same_dtype=False)

define(Unary, "is_nan", np.isnan, ARITHMETIC_FLOATS, "Whether x is not a number, as bool.", result_dtype="bool")


@register
class IsInf(Unary):
    """Whether x is infinite, as bool; either sign can be left out."""

    name = "is_inf"
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "detect_negative": Attribute(Kind.BOOL, True),
        "detect_positive": Attribute(Kind.BOOL, True),
    }
    dtypes = ARITHMETIC_FLOATS
    result_dtype = "bool"

    @staticmethod
    def function(x: np.ndarray, detect_negative: bool, detect_positive: bool) -> np.ndarray:
        """The mask."""
        return np.isinf(x) & ((detect_negative & (x < 0)) | (detect_positive & (x > 0)))
