"""What an observer is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.passes.quantization.grid import Grid


class Observer(ABC):
    """Sees a value batch by batch, in memory that does not grow, and tells the range to represent.

    Attributes:
        low, high: least and greatest element seen.
    """

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf

    def update(self, array: np.ndarray) -> None:
        """Takes a batch in: floats of any shape.

        Raises:
            EdgeIRError: it has no elements, or some are infinite or NaN.
        """
        if not array.size:
            raise EdgeIRError("there is nothing to observe", expected="at least one element", got=list(array.shape))
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = array.size - int(np.isfinite(array.astype(np.float64)).sum())
            raise EdgeIRError("a value is infinite or NaN", expected="finite numbers", got=f"{bad} of {array.size}")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.take(array, low, high)

    @abstractmethod
    def take(self, array: np.ndarray, low: float, high: float) -> None:
        """Takes in a batch of finite numbers between `low` and `high`."""

    def range(self, grid: Grid) -> tuple[float, float]:
        """The range to represent on a grid, 0 included.

        Raises:
            EdgeIRError: nothing was observed.
        """
        if self.low > self.high:
            raise EdgeIRError("there is nothing to observe", expected="at least one batch", got="none")
        low, high = self.choose(grid)
        return min(low, 0.0), max(high, 0.0)

    @abstractmethod
    def choose(self, grid: Grid) -> tuple[float, float]:
        """The range, once there were batches."""
