"""Functions of few values, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeir.ir.op import Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import check_dtype, check_shape, integer_range, present

_ENTRIES = {"int8": 256, "uint8": 256, "int4": 16, "uint4": 16}


@register
class Lookup(Op):
    """y[i] = table[x[i] − lowest], lowest being the least value of x's dtype.

    Operands: x int8, uint8, int4 or uint4; table (256) or (16), of any dtype, which the result has. How a nonlinear
    function of a quantized tensor (sigmoid, hard-swish) is computed, and how 4-bit codes stand for weights.
    """

    name = "lookup"
    operands = ("x", "table")
    pattern = Pattern.ELEMENTWISE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The shape of x in the table's dtype."""
        x, table = present(inputs, 0), present(inputs, 1)
        check_dtype("x", x, _ENTRIES)
        check_shape("table", table, (_ENTRIES[x.dtype],))
        return [TensorType(table.dtype, x.shape)]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy's take."""
        x, table = present(inputs, 0), present(inputs, 1)
        return [table[x.astype(np.int16) - integer_range(x.dtype.name)[0]]]
