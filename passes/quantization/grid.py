"""Scale and zero point of a range: x ≈ (q − zero)·scale.

Jacob et al.: "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
section 3: the range is widened to hold 0, and 0 is one of the numbers that are represented exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeir.ir.dtype import numpy_dtype
from edgeir.ops.operands import integer_range


@dataclass(frozen=True)
class Grid:
    """The whole numbers that values are rounded to.

    Attributes:
        dtype: `uint8`, `int8`, `uint4` or `int4`.
        symmetric: whether zero lies in the middle (at the lowest number for an unsigned type and values ≥ 0). A
            signed type then leaves out its lowest number, −128 or −8.
    """

    dtype: str
    symmetric: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest number in use."""
        low, high = integer_range(self.dtype)
        return (-high, high) if self.symmetric and low < 0 else (low, high)

    def fit(self, low: float, high: float) -> tuple[float, int]:
        """Scale and zero point for a range, widened to hold 0; scale 1 where the range is 0 alone."""
        least, greatest = self.limits
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if self.symmetric and not (least == 0 and low == 0.0):
            zero = (least + greatest + 1) // 2
            return max(-low, high) / (greatest - zero) or 1.0, zero
        # Divided first: the difference of two large floats may overflow.
        scale = high / (greatest - least) - low / (greatest - least)
        if scale == 0.0:
            return 1.0, min(max(0, least), greatest)
        return scale, zero_point(low, scale, least, greatest)


def zero_point(low: float, scale: float, least: int, greatest: int) -> int:
    """The number that stands for 0 when `least` stands for `low`."""
    return min(max(round(least - low / scale), least), greatest)


def safe_scale(scale: np.ndarray | float, dtype: str) -> np.ndarray:
    """A scale in a float type, neither 0 nor denormal nor infinite.

    Args:
        scale: positive, in float64.
        dtype: `float32`, `float16`, `float64` or `bfloat16`.
    """
    # ml_dtypes' own types have no numpy.finfo; bfloat16 has float32's exponents.
    info = np.finfo(np.float32 if dtype == "bfloat16" else numpy_dtype(dtype))
    greatest = float(info.max) / (2.0 if dtype == "bfloat16" else 1.0)
    return np.clip(np.asarray(scale, np.float64), float(info.tiny), greatest).astype(numpy_dtype(dtype))


def affine_parameters(low: float, high: float, grid: Grid, float_dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale (scalar of `float_dtype`) and zero point (scalar of the grid's type) for a range.

    The zero point is that of the scale as it is stored, so that 0 stays exact and ends are off by half a step at most.
    """
    scale, zero = grid.fit(low, high)
    stored = safe_scale(scale, float_dtype)
    least, greatest = grid.limits
    if not grid.symmetric and low < 0.0:
        zero = zero_point(float(low), float(stored), least, greatest)
    return stored, np.array(zero, numpy_dtype(grid.dtype))
