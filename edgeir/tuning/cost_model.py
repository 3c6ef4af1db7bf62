"""A gradient-boosted model that ranks the configurations of a kernel, the fastest first.

It learns speeds relative to each kernel's default, bounded, so that differences among the fast ones count and how slow
the slow ones are does not: kernels and machines differ in their seconds, but much less in which of two configurations
is faster. Measurements of other kernels so tell where to look before the first one of a new kernel. (xgboost's pairwise
objective, grouped by kernel, ranked no better on recorded measurements and trained more slowly.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xgboost

SLOWEST = 4.0
"""Ratio to the default beyond which all are equally bad, failures included."""

FASTEST = 0.25
"""Ratio to the default below which all are equally good."""

FEWEST_ROWS = 8
OTHERS = 0.3
"""Weight of other kernels' measurements beside the kernel's own."""

ROUNDS = 50
_PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 5,
    "eta": 0.2,
    "min_child_weight": 1,
    "subsample": 0.9,
    "colsample_bytree": 0.9,
    "tree_method": "hist",
    # A quarter of the default: trained in a third of the time, and no worse.
    "max_bin": 64,
    "nthread": 1,
    "verbosity": 0,
}


class CostModel:
    """Ranks configurations. Rows of earlier runs and other kernels stay in the training set with a smaller weight.

    Rows may be of several lengths, the longer ones continuing the shorter ones: a cheap first ranking by few features
    and a second one by all. Rows that were added short count as unknown in the rest.

    Args:
        seed: of the subsampling.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._rows: list[np.ndarray] = []
        self._labels: list[float] = []
        self._owners: list[str] = []
        self._boosters: dict[int, tuple[str, int, xgboost.Booster]] = {}

    def add(self, owner: str, rows: np.ndarray, ratios: Sequence[float]) -> None:
        """Adds measurements.

        Args:
            owner: the kernel; its own rows weigh more when it is ranked.
            rows: features, shape (n, features).
            ratios: seconds by the default's seconds; infinite for failures.
        """
        for row, ratio in zip(rows, ratios, strict=True):
            self._rows.append(row)
            self._labels.append(label(ratio))
            self._owners.append(owner)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_trained(self) -> bool:
        """Whether there is enough to rank by."""
        return len(self._rows) >= FEWEST_ROWS

    def predict(self, owner: str, rows: np.ndarray) -> np.ndarray:
        """Scores of an owner's configurations, shape (n,): smaller is faster; 0 before there is data."""
        if not self.is_trained or not len(rows):
            return np.zeros(len(rows), np.float32)
        width = rows.shape[1]
        known = self._boosters.get(width)
        if known is None or known[:2] != (owner, len(self._rows)):
            known = self._boosters[width] = (owner, len(self._rows), self._trained(owner, width))
        return known[2].predict(xgboost.DMatrix(rows))

    def _trained(self, owner: str, width: int) -> xgboost.Booster:
        rows = np.full((len(self._rows), width), np.nan, np.float32)
        for target, row in zip(rows, self._rows, strict=True):
            target[: len(row)] = row[:width]
        weights = [1.0 if name == owner else OTHERS for name in self._owners]
        data = xgboost.DMatrix(rows, np.array(self._labels), weight=np.array(weights))
        return xgboost.train({**_PARAMETERS, "seed": self._seed}, data, num_boost_round=ROUNDS)


def label(ratio: float) -> float:
    """What the model learns: 1 - speed relative to the default, bounded. Differences among the fast ones count most."""
    return 1 - 1 / min(SLOWEST, max(FASTEST, ratio))
