"""A short way for rules to write arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeir.ir import Dim, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.rewrite import Rewriter


class Arithmetic:
    """Adds operators before a rewriter's root; numbers among the operands become scalar constants, made once each."""

    def __init__(self, rewriter: Rewriter, dtype: str) -> None:
        self.rewriter = rewriter
        self.dtype = dtype
        self._numbers: dict[float, Value] = {}

    @classmethod
    def single(cls, rewriter: Rewriter, dtype: str) -> Arithmetic:
        """In an element type of floats, or in single precision where that has less."""
        return cls(rewriter, "float32" if dtype in ("float16", "bfloat16") else dtype)

    def __call__(self, op: str, *operands: Value | float | None, **attributes: Any) -> Value:
        """The result of one operator."""
        values = (self.number(float(x)) if isinstance(x, int | float) else x for x in operands)
        return self.rewriter.add(op, *values, **attributes)

    def number(self, number: float) -> Value:
        """A scalar constant of the arithmetic's element type."""
        if number not in self._numbers:
            self._numbers[number] = self.rewriter.constant(np.array(number, numpy_dtype(self.dtype)), "number")
        return self._numbers[number]

    def reshape(self, x: Value, *shape: Dim) -> Value:
        """x in another shape."""
        return x if x.type.shape == shape else self("reshape", x, shape=shape)

    def part(self, x: Value, axis: int, start: Dim, size: Dim) -> Value:
        """`size` elements along one axis."""
        starts: list[Dim] = [0] * x.type.rank
        sizes = list(x.type.shape)
        starts[axis], sizes[axis] = start, size
        return self("slice", x, starts=tuple(starts), sizes=tuple(sizes), steps=(1,) * x.type.rank)

    def concat(self, parts: list[Value], axis: int) -> Value:
        """Parts side by side."""
        return parts[0] if len(parts) == 1 else self("concat", *parts, axis=axis)

    def cast(self, x: Value, dtype: str) -> Value:
        """x in another element type."""
        return x if x.type.dtype == dtype else self("cast", x, dtype=dtype)
