"""The range with the least squared error."""

from __future__ import annotations

import numpy as np

from edgeir.passes.quantization.grid import Grid
from edgeir.passes.quantization.observers.counting import CountingObserver


class MeanSquaredError(CountingObserver):
    """The range whose rounding and clipping errors have the least sum of squares.

    Sung, Shin, Hwang: "Resiliency of Deep Neural Networks under Quantization", 2015, section 3. Both ends are shrunk
    together over a grid of factors, then each alone.
    """

    FACTORS = np.linspace(1.0, 0.1, 91)

    def choose(self, grid: Grid) -> tuple[float, float]:
        """The best range found; ties go to the wider."""
        centers, counts = self._histogram.centers()
        if not counts.size:
            return self.low, self.high
        used = counts > 0
        centers, counts = np.clip(centers[used], self.low, self.high), counts[used]

        def error(low: float, high: float) -> float:
            return float(np.dot(counts, rounding_error(centers, grid, low, high) ** 2))

        low, high = min(self.low, 0.0), max(self.high, 0.0)
        best = min(self.FACTORS, key=lambda factor: error(low * factor, high * factor))
        low, high = low * best, high * best
        if low < 0.0 < high and not grid.symmetric:
            high *= min(self.FACTORS, key=lambda factor: error(low, high * factor))
            low *= min(self.FACTORS, key=lambda factor: error(low * factor, high))
        return low, high


def rounding_error(values: np.ndarray, grid: Grid, low: float, high: float) -> np.ndarray:
    """What rounding to the grid of a range, and clipping, does to values."""
    scale, zero = grid.fit(low, high)
    least, greatest = grid.limits
    return (np.clip(np.rint(values / scale) + zero, least, greatest) - zero) * scale - values
