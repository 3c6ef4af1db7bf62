"""A histogram whose range grows and whose memory does not."""

from __future__ import annotations

import math

import numpy as np

BINS = 4096


class Histogram:
    """Counts of the elements between multiples of a power of 2; exact zeros are counted apart.

    Bin i holds the x with i ≤ x / 2^exponent < i + 1. When what comes needs more than `BINS` bins, the width doubles
    and neighbours are added up, so counts stay exact, and 0 stays between two bins.

    Attributes:
        zeros: number of elements that are 0.
        total: number of all elements.
    """

    def __init__(self) -> None:
        self.zeros = 0
        self.total = 0
        self._exponent: int | None = None
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, array: np.ndarray, low: float, high: float) -> None:
        """Counts finite elements, all of which lie between `low` and `high`."""
        values = array.reshape(-1).astype(np.float64)
        self.total += values.size
        self.zeros += values.size - np.count_nonzero(values)
        values = values[values != 0.0]
        if not values.size:
            return
        low, high = min(low, 0.0), max(high, 0.0)
        # The width that spreads this batch over at most BINS bins; one bin to spare at either end.
        exponent = math.frexp((high - low) / (BINS - 2))[1]
        if self._exponent is None:
            self._exponent = exponent
        while True:
            first, last = (math.floor(math.ldexp(edge, -self._exponent)) for edge in (low, high))
            if self._counts.size:
                first, last = min(first, self._first), max(last, self._first + self._counts.size - 1)
            if last - first < BINS:
                break
            self._widen(max(1, exponent - self._exponent))
        counts = np.zeros(last - first + 1, np.int64)
        counts[self._first - first :][: self._counts.size] += self._counts
        index = np.floor(np.ldexp(values, -self._exponent)).astype(np.int64) - first
        counts += np.bincount(index, minlength=counts.size)
        self._first, self._counts = first, counts

    def _widen(self, doublings: int) -> None:
        assert self._exponent is not None
        self._exponent += doublings
        if self._counts.size:
            index = np.arange(self._first, self._first + self._counts.size) >> min(doublings, 62)
            self._first = int(index[0])
            self._counts = np.bincount(index - self._first, weights=self._counts).astype(np.int64)

    @property
    def width(self) -> float:
        """The width of a bin; 0 if only zeros were seen."""
        return 0.0 if self._exponent is None else math.ldexp(1.0, self._exponent)

    def centers(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the bins in order, and their counts; zeros are not among them."""
        return (np.arange(self._first, self._first + self._counts.size) + 0.5) * self.width, self._counts

    def magnitudes(self) -> np.ndarray:
        """Counts by magnitude: element i counts the x ≠ 0 with i ≤ |x| / width ≤ i + 1."""
        index = np.arange(self._first, self._first + self._counts.size)
        folded = np.where(index < 0, -index - 1, index)
        return np.bincount(folded, weights=self._counts).astype(np.int64) if index.size else np.zeros(1, np.int64)

    def bound(self, share: float) -> tuple[float, float]:
        """The range outside which at most `share` of all elements lie, on each side; 0 is inside."""
        allowed = share * self.total
        index = np.arange(self._first, self._first + self._counts.size)
        ends = []
        for sign in (-1, 1):
            side = index < 0 if sign < 0 else index >= 0
            places = index[side] if sign < 0 else index[side][::-1]
            counts = self._counts[side] if sign < 0 else self._counts[side][::-1]
            beyond = np.cumsum(counts)
            kept = np.flatnonzero(beyond > allowed)
            ends.append(float(places[kept[0]] + (sign > 0)) * self.width if kept.size else 0.0)
        return ends[0], ends[1]
