"""The range without its rarest elements."""

from __future__ import annotations

from edgeir.passes.quantization.grid import Grid
from edgeir.passes.quantization.observers.counting import CountingObserver


class Percentile(CountingObserver):
    """The range outside which at most 0.01 % of the elements lie on each side.

    Wu et al.: "Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation", 2020, section
    3.3, which finds 99.99 % and 99.999 % to work best.
    """

    SHARE = 1e-4

    def choose(self, grid: Grid) -> tuple[float, float]:
        """The percentiles, at bins' edges."""
        low, high = self._histogram.bound(self.SHARE)
        return max(low, self.low), min(high, self.high)
