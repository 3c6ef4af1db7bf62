"""Weights as integers or as powers of 2: the scales of their channels, and the codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from edgeir.ir.dtype import numpy_dtype
from edgeir.ops.logarithmic import LogDequantize, LogQuantize
from edgeir.ops.operands import integer_range
from edgeir.passes.quantization.grid import safe_scale

PAIR_LIMIT = 128
"""`vpmaddubsw` adds two products of a uint8 and an int8 in 16 bits: 255·(|w₀| + |w₁|) must stay below 2^15."""

_LINEAR_FACTORS = np.linspace(1.0, 0.5, 26)
_LOG_FACTORS = 2.0 ** (np.arange(-6, 14) / 8)


def linear_scales(
    weights: np.ndarray, axes: tuple[int, ...], dtype: str, float_dtype: str, pair_axis: int | None, search: bool
) -> np.ndarray:
    """Scales of symmetric integers.

    Args:
        weights: floats.
        axes: axes along which scales differ (one element per channel); none for one scale in all.
        dtype: `int8` or `int4`.
        float_dtype: of the result.
        pair_axis: the axis whose neighbours 2j, 2j + 1 must fit `PAIR_LIMIT` together; None for no such limit.
        search: whether scales that clip the largest weights are tried too, for the least squared error.

    Returns:
        Scales that broadcast against the weights; 1 where all weights of a channel are 0.
    """
    greatest = integer_range(dtype)[1]
    wide = np.abs(weights.astype(np.float64))
    others = tuple(axis for axis in range(wide.ndim) if axis not in axes)
    scales = wide.max(axis=others, keepdims=True, initial=0.0) / greatest
    if pair_axis is not None:
        pairs = _pairs(wide, pair_axis).sum(axis=-1)
        bound = np.moveaxis(pairs, -1, pair_axis).max(axis=others, keepdims=True, initial=0.0) / PAIR_LIMIT
        scales = np.maximum(scales, bound)
    scales = np.where(scales == 0.0, 1.0, scales)
    if search:
        scales = _least_error(
            weights, others, (scales * factor for factor in _LINEAR_FACTORS), lambda s: _rounded(weights, s, dtype) * s
        )
    return safe_scale(scales, float_dtype)


def linear_codes(weights: np.ndarray, scales: np.ndarray, dtype: str, pair_axis: int | None) -> np.ndarray:
    """The integers nearest to weights / scales; where a pair exceeds its limit by rounding, one of it gives way."""
    codes = _rounded(weights, scales.astype(np.float64), dtype)
    if pair_axis is not None:
        pairs = _pairs(codes, pair_axis)
        wide = _pairs(np.abs(weights.astype(np.float64) / scales.astype(np.float64)), pair_axis)
        excess = np.maximum(np.abs(pairs).sum(axis=-1) - PAIR_LIMIT, 0)
        # The one that was rounded up furthest loses least when it goes down.
        gives = np.argmax(np.abs(pairs) - wide, axis=-1)[..., None] == np.arange(2)
        pairs = np.where(gives, np.sign(pairs) * (np.abs(pairs) - excess[..., None]), pairs)
        flat = pairs.reshape(*pairs.shape[:-2], -1)[..., : codes.shape[pair_axis]]
        codes = np.moveaxis(flat, -1, pair_axis)
    return np.ascontiguousarray(codes).astype(np.int8).astype(numpy_dtype(dtype))


def log_scales(weights: np.ndarray, axes: tuple[int, ...], bits: int, float_dtype: str) -> np.ndarray:
    """Scales B of sign·B·2^e with the least squared error, among steps of 2^(1/8) around the largest weight's.

    Args:
        weights: floats.
        axes: axes along which scales differ.
        bits: of a code.
        float_dtype: of the result.
    """
    wide = np.abs(weights.astype(np.float64))
    others = tuple(axis for axis in range(wide.ndim) if axis not in axes)
    top = wide.max(axis=others, keepdims=True, initial=0.0) / 2.0 ** (2 ** (bits - 2) - 1)
    top = np.where(top == 0.0, 1.0, top)

    def represented(scales: np.ndarray) -> np.ndarray:
        return log_values(weights, scales, bits)

    return safe_scale(
        _least_error(weights, others, (top / factor for factor in _LOG_FACTORS), represented), float_dtype
    )


def log_codes(weights: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    """Codes of `log_quantize`."""
    return LogQuantize().evaluate([weights, scales], {"bits": bits})[0]


def log_values(weights: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    """What the codes stand for."""
    return LogDequantize().evaluate([log_codes(weights, scales, bits), scales], {"bits": bits})[0]


def _rounded(weights: np.ndarray, scales: np.ndarray, dtype: str) -> np.ndarray:
    return np.clip(np.rint(weights.astype(np.float64) / scales), *integer_range(dtype))


def _pairs(array: np.ndarray, axis: int) -> np.ndarray:
    """Neighbours along an axis, moved last: (…, ⌈size / 2⌉, 2)."""
    moved = np.moveaxis(array, axis, -1)
    if moved.shape[-1] % 2:
        moved = np.concatenate([moved, np.zeros((*moved.shape[:-1], 1), moved.dtype)], axis=-1)
    return moved.reshape(*moved.shape[:-1], -1, 2)


def _least_error(
    weights: np.ndarray,
    others: tuple[int, ...],
    candidates: Iterable[np.ndarray],
    represented: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Of several scales for each channel, the one with the least squared error; the first of equals."""
    best, least = None, None
    for scales in candidates:
        error = ((represented(scales) - weights.astype(np.float64)) ** 2).sum(axis=others, keepdims=True)
        if best is None or least is None:
            best, least = scales, error
        else:
            best, least = np.where(error < least, scales, best), np.minimum(error, least)
    assert best is not None
    return best
