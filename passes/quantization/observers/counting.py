"""What observers that count elements in bins share."""

from __future__ import annotations

import numpy as np

from edgeir.passes.quantization.observers.histogram import Histogram
from edgeir.passes.quantization.observers.observer import Observer


class CountingObserver(Observer):
    """Chooses from a histogram of all elements."""

    def __init__(self) -> None:
        super().__init__()
        self._histogram = Histogram()

    def take(self, array: np.ndarray, low: float, high: float) -> None:
        """Counts."""
        self._histogram.add(array, low, high)
