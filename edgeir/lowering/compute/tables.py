"""Constant arrays that kernels read beside their operands."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeir.lowering import te


@dataclass
class Tables:
    """Constant arrays that kernels read beside their operands (interpolation weights, source positions).

    Attributes:
        arrays: the arrays, in the order in which the computation asked for them.
        placeholders: the tensors that stand for them.
    """

    arrays: list[np.ndarray] = field(default_factory=list)
    placeholders: list[te.Tensor] = field(default_factory=list)

    def add(self, array: np.ndarray) -> te.Tensor:
        """The placeholder of a new table."""
        array = np.ascontiguousarray(array)
        tensor = te.placeholder(array.shape, array.dtype.name, name=f"table{len(self.arrays)}")
        self.arrays.append(array)
        self.placeholders.append(tensor)
        return tensor
