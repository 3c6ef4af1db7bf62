"""Rounding one weight after the other, each error being moved onto the weights that are not rounded yet.

Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022, section 3; the method is that of Frantar, Singh, Alistarh: "Optimal Brain Compression", 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 128


@dataclass(frozen=True)
class Pairs:
    """Neighbours whose codes' sizes may come to a limit together.

    Attributes:
        partners: for each input its neighbour, or itself; [inputs].
        limit: the greatest |code| + |neighbour's code|.
    """

    partners: np.ndarray
    limit: float


class SuccessiveRounding:
    """What rounding does for one Hessian.

    Args:
        hessian: H, symmetric and positive definite, float64 [groups, inputs, inputs].
        grid: what may be represented at scale 1, ascending.
    """

    def __init__(self, hessian: np.ndarray, grid: np.ndarray) -> None:
        self._hessian, self._grid = hessian, grid
        self._middles = (grid[1:] + grid[:-1]) / 2
        # The inputs of the greatest power come first, while there are many others to make up for them.
        self._order = np.argsort(-np.diagonal(hessian, axis1=1, axis2=2), axis=1, kind="stable")
        self._inverse = np.argsort(self._order, axis=1)
        rows = np.take_along_axis(hessian, self._order[:, :, None], 1)
        permuted = np.take_along_axis(rows, self._order[:, None, :], 2)
        # H⁻¹ = Lᵀ·L with an upper L, as [inputs, inputs, groups].
        upper = np.linalg.cholesky(np.linalg.inv(permuted)).swapaxes(1, 2)
        self._factor = np.ascontiguousarray(upper.transpose(1, 2, 0))

    def codes(self, weights: np.ndarray, scales: np.ndarray, pairs: Pairs | None = None) -> np.ndarray:
        """Codes C on the grid with a small (C·scale − w)·H·(C·scale − w)ᵀ of each output.

        Args:
            weights: w, float64 [groups, outputs, inputs].
            scales: positive, [groups, outputs, 1].
            pairs: what limits neighbouring codes.

        Returns:
            Elements of the grid, float64 [groups, outputs, inputs].
        """
        factor = self._factor
        # [inputs, groups, outputs], so that what is read and written together lies together.
        left = np.ascontiguousarray(np.take_along_axis(weights / scales, self._order[:, None, :], 2).transpose(2, 0, 1))
        codes = np.zeros_like(left)
        room = np.full(left.shape, pairs.limit) if pairs is not None else None
        paired = np.take_along_axis(self._inverse, pairs.partners[self._order], 1) if pairs is not None else None
        for start in range(0, len(left), _BLOCK):
            end = min(start + _BLOCK, len(left))
            errors = np.empty((end - start, *left.shape[1:]))
            for i in range(start, end):
                wanted = left[i] if room is None else np.clip(left[i], -room[i], room[i])
                codes[i] = code = self._grid[np.searchsorted(self._middles, wanted)]
                if pairs is not None and room is not None and paired is not None:
                    for group in np.flatnonzero(paired[:, i] != i):
                        room[paired[group, i], group] = pairs.limit - np.abs(code[group])
                errors[i - start] = error = (left[i] - code) / factor[i, i, :, None]
                left[i + 1 : end] -= factor[i, i + 1 : end, :, None] * error
            rest = factor[start:end, end:].transpose(2, 1, 0) @ errors.transpose(1, 0, 2)
            left[end:] -= rest.transpose(1, 0, 2)
        return np.take_along_axis(codes.transpose(1, 2, 0), self._inverse[:, None, :], 2)

    def improve(self, codes: np.ndarray, weights: np.ndarray, scales: np.ndarray, sweeps: int) -> np.ndarray:
        """Codes that are rounded again, each given the errors of all others, up to `sweeps` times."""
        columns = np.ascontiguousarray(codes.transpose(2, 0, 1))
        rows = np.ascontiguousarray(self._hessian.transpose(1, 2, 0))
        wanted = np.ascontiguousarray((weights / scales).transpose(2, 0, 1))
        for _ in range(sweeps):
            gradient = np.ascontiguousarray(((wanted - columns).transpose(1, 2, 0) @ self._hessian).transpose(2, 0, 1))
            changed = False
            for i in range(len(columns)):
                best = columns[i] + gradient[i] / rows[i, i, :, None]
                step = self._grid[np.searchsorted(self._middles, best)] - columns[i]
                if step.any():
                    changed = True
                    gradient -= rows[i, :, :, None] * step
                    columns[i] += step
            if not changed:
                break
        return columns.transpose(1, 2, 0)

    def nearest(self, weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """The codes nearest to weights / scales."""
        return self._grid[np.searchsorted(self._middles, weights / scales)]

    def own_error(self, codes: np.ndarray, weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """`error` without what weights' errors do together."""
        powers = np.diagonal(self._hessian, axis1=1, axis2=2)[:, None, :]
        return (powers * (codes * scales - weights) ** 2).sum(axis=2, keepdims=True)

    def error(self, codes: np.ndarray, weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """(C·scale − w)·H·(C·scale − w)ᵀ, [groups, outputs, 1]."""
        error = codes * scales - weights
        return ((error @ self._hessian) * error).sum(axis=2, keepdims=True)
