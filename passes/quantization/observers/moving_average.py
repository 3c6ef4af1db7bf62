"""An average of the batches' ranges."""

from __future__ import annotations

import numpy as np

from edgeir.passes.quantization.grid import Grid
from edgeir.passes.quantization.observers.observer import Observer


class MovingAverage(Observer):
    """Exponential moving averages of each batch's least and greatest element, which a single outlier moves little.

    Jacob et al., CVPR 2018, section 3.1. The smoothing is 0.9; the first batch starts it.
    """

    SMOOTHING = 0.9

    def __init__(self) -> None:
        super().__init__()
        self._average: tuple[float, float] | None = None

    def take(self, array: np.ndarray, low: float, high: float) -> None:
        """Moves the averages."""
        if self._average is None:
            self._average = low, high
            return
        rest = 1.0 - self.SMOOTHING
        before_low, before_high = self._average
        self._average = self.SMOOTHING * before_low + rest * low, self.SMOOTHING * before_high + rest * high

    def choose(self, grid: Grid) -> tuple[float, float]:
        """The averages."""
        return self._average or (self.low, self.high)
