"""The whole range seen."""

from __future__ import annotations

import numpy as np

from edgeir.passes.quantization.grid import Grid
from edgeir.passes.quantization.observers.observer import Observer


class MinMax(Observer):
    """Least and greatest element of all samples: nothing seen is clipped.

    Krishnamoorthi: "Quantizing deep convolutional networks for efficient inference: A whitepaper", 2018, section 2.
    """

    def take(self, array: np.ndarray, low: float, high: float) -> None:
        """Nothing more to remember."""

    def choose(self, grid: Grid) -> tuple[float, float]:
        """The range seen."""
        return self.low, self.high
