"""The range without its rarest elements."""

from __future__ import annotations

import numpy as np

from edgeir.passes.quantization.grid import Grid
from edgeir.passes.quantization.observers.histogram import Histogram
from edgeir.passes.quantization.observers.observer import Observer


class Percentile(Observer):
    """The range outside which at most 0.01 % of the elements lie on each side.

    Wu et al.: "Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation", 2020, section
    3.3, which finds 99.99 % and 99.999 % to work best.
    """

    SHARE = 1e-4

    def __init__(self) -> None:
        super().__init__()
        self._histogram = Histogram()

    def take(self, array: np.ndarray, low: float, high: float) -> None:
        """Counts."""
        self._histogram.add(array, low, high)

    def choose(self, grid: Grid) -> tuple[float, float]:
        """The percentiles, at bins' edges."""
        low, high = self._histogram.bound(self.SHARE)
        return max(low, self.low), min(high, self.high)
