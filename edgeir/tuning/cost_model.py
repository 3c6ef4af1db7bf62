"""A gradient-boosted model of how fast a configuration is beside its kernel's default."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xgboost

FAILED = 3.0
"""What a failed candidate counts as: log2 of seconds by the default's seconds."""

SLOWEST = 4.0
"""Beyond this all are equally bad."""

FEWEST_ROWS = 8
ROUNDS = 80
_PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 6,
    "eta": 0.15,
    "min_child_weight": 1,
    "subsample": 0.9,
    "colsample_bytree": 0.9,
    "tree_method": "exact",
    "nthread": 1,
    "verbosity": 0,
}


class CostModel:
    """Ranks configurations. Rows of earlier runs and other kernels stay in the training set with a smaller weight.

    Args:
        seed: of the subsampling.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._rows: list[np.ndarray] = []
        self._labels: list[float] = []
        self._owners: list[str] = []
        self._booster: xgboost.Booster | None = None
        self._trained_for = ("", 0)

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

    def predict(self, owner: str, rows: np.ndarray) -> np.ndarray:
        """log2 of the predicted ratio to the default, shape (n,): smaller is faster; 0 before there is data."""
        if len(self._rows) < FEWEST_ROWS or not len(rows):
            return np.zeros(len(rows), np.float32)
        if self._trained_for != (owner, len(self._rows)):
            weights = [1.0 if name == owner else 0.3 for name in self._owners]
            data = xgboost.DMatrix(np.stack(self._rows), np.array(self._labels), weight=np.array(weights))
            self._booster = xgboost.train({**_PARAMETERS, "seed": self._seed}, data, num_boost_round=ROUNDS)
            self._trained_for = (owner, len(self._rows))
        assert self._booster is not None
        return self._booster.predict(xgboost.DMatrix(rows))


def label(ratio: float) -> float:
    """What the model learns: log2 of the ratio, bounded."""
    return FAILED if math.isinf(ratio) else max(-SLOWEST, min(SLOWEST, math.log2(ratio)))
