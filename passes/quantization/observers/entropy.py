"""The range that loses the least information."""

from __future__ import annotations

import numpy as np

from edgeir.passes.quantization.grid import Grid
from edgeir.passes.quantization.observers.counting import CountingObserver


class Entropy(CountingObserver):
    """The threshold for |x| with the least Kullback-Leibler divergence between the distribution and its quantized form.

    Migacz: "8-bit Inference with TensorRT", GTC 2017. For each threshold, P is the histogram with what lies beyond
    added to its last bin, and Q the histogram within merged to as many levels as the grid has there and spread again
    over the bins that are not empty. Zeros are left out: every grid represents them exactly.
    """

    CANDIDATES = 256

    def choose(self, grid: Grid) -> tuple[float, float]:
        """The range, clipped at the threshold on both sides."""
        counts = self._histogram.magnitudes()
        width = self._histogram.width
        if counts.size < 2:
            return self.low, self.high
        least, greatest = grid.limits

        def levels(threshold: float) -> int:
            low, high = max(self.low, -threshold), min(self.high, threshold)
            scale, _ = grid.fit(low, high)
            return max(1, min(round(threshold / scale), greatest - least))

        stops = np.unique(np.linspace(min(128, counts.size), counts.size, self.CANDIDATES).astype(int))
        best = min(stops[::-1], key=lambda stop: divergence(counts, int(stop), levels(stop * width)))
        threshold = float(best) * width
        return max(self.low, -threshold), min(self.high, threshold)


def divergence(counts: np.ndarray, stop: int, levels: int) -> float:
    """KL(P ‖ Q) of the first `stop` bins merged to `levels` levels."""
    inside = counts[:stop].astype(np.float64)
    p = inside.copy()
    p[-1] += counts[stop:].sum()
    level = np.arange(stop) * levels // stop
    filled = inside > 0
    mass = np.bincount(level, weights=inside, minlength=levels)
    members = np.bincount(level[filled], minlength=levels)
    q = np.where(filled, (mass / np.maximum(members, 1))[level], 0.0)
    if not q.sum():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    seen = p > 0
    # Where the last bin holds only what was clipped, Q has nothing there: the divergence would be infinite.
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))))
