"""How a sparse matrix of weights is stored: rows of pairs of nonzeros, in one array of 32-bit words.

    words = [starts: rows + 1] [pair 0] [pair 1] …        pair = [column a | column b << 16] [value a] [value b]

`starts[r]` counts the pairs before row r, rows in order. A row with an odd number of nonzeros ends with a zero at its
last column. The array's type is float32, and integers stand in it by their bits. A nonzero takes 6 bytes, so a matrix
with 90 % zeros takes 15 % of its dense size, and 4 bytes a row.

A kernel is compiled for a capacity of pairs, not for their places: layers of one shape and nearly the same number of
nonzeros share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeir.errors import EdgeIRError

WORDS_OF_PAIR = 3
MOST_COLUMNS = 1 << 16
"""Columns that an index of 16 bits can tell apart."""

WORTH_RECORDING = 0.6
"""Share of elements left out from which sparse code is considered. At one half (2:4 patterns, say) it was measured at
0.75 to 1.2 times the speed of dense code."""

_STEPS = 32


@dataclass(frozen=True)
class SparsePattern:
    """What a schedule knows of a sparse matrix of weights.

    Attributes:
        pairs: pairs of nonzeros that there is room for, rounded up so that like matrices share kernels.
    """

    pairs: int

    def __str__(self) -> str:
        return f"{self.pairs} pairs of nonzeros"


def pattern_of(matrix: np.ndarray) -> SparsePattern | None:
    """The pattern of a matrix (rows: outputs; columns: what is summed over), or None where it is too dense to matter.

    Args:
        matrix: float array of shape (rows, columns).
    """
    if matrix.size == 0 or matrix.shape[1] > MOST_COLUMNS:
        return None
    pairs = rounded(int(pairs_of_rows(matrix != 0).sum()))
    # Decided by what is stored, so that a matrix made from the pattern gets the same answer.
    return SparsePattern(pairs) if 2 * pairs <= (1 - WORTH_RECORDING) * matrix.size else None


def rounded(pairs: int) -> int:
    """The capacity for a number of pairs: at most 1/32 above it, or 7. Rounding a capacity gives itself."""
    step = max(8, 1 << max(0, pairs // _STEPS).bit_length() - 1) if pairs >= _STEPS else 8
    return -(-pairs // step) * step


def pairs_of_rows(nonzero: np.ndarray) -> np.ndarray:
    """Pairs that each row takes, from the mask of nonzeros of shape (rows, columns)."""
    return (np.count_nonzero(nonzero, axis=1) + 1) // 2


def stored_words(pattern: SparsePattern, rows: int) -> int:
    """Length of the array for a matrix of `rows` rows."""
    return first_pair(rows) + WORDS_OF_PAIR * pattern.pairs


def first_pair(rows: int) -> int:
    """Where the pairs begin."""
    return rows + 1


def pack_rows(pattern: SparsePattern, rows: int) -> Callable[[np.ndarray], np.ndarray]:
    """How a matrix of at most `rows` rows is stored; missing rows are empty.

    Returns:
        A function from a float32 array of shape (outputs, inputs, 1…) to the array of words.
    """

    def pack(weight: np.ndarray) -> np.ndarray:
        matrix = weight.reshape(weight.shape[0], -1)
        nonzero = matrix != 0
        counts = np.zeros(rows, np.int64)
        counts[: matrix.shape[0]] = pairs_of_rows(nonzero)
        starts = np.concatenate(([0], np.cumsum(counts)))
        row, column = np.nonzero(nonzero)
        # Where each nonzero stands: twice the pairs before its row, plus its place in the row.
        first_of_row = np.concatenate(([0], np.cumsum(np.count_nonzero(nonzero, axis=1))))
        place = 2 * starts[row] + np.arange(row.size) - first_of_row[row]
        values = np.zeros(2 * pattern.pairs, np.float32)
        columns = np.zeros(2 * pattern.pairs, np.uint32)
        values[place], columns[place] = matrix[row, column], column
        odd = np.flatnonzero(np.count_nonzero(nonzero, axis=1) % 2)
        columns[2 * starts[odd + 1] - 1] = columns[2 * starts[odd + 1] - 2]
        pairs = np.empty((pattern.pairs, WORDS_OF_PAIR), np.uint32)
        pairs[:, 0] = columns[0::2] | columns[1::2] << 16
        pairs[:, 1:] = values.view(np.uint32).reshape(-1, 2)
        return np.concatenate((starts.astype(np.uint32), pairs.reshape(-1))).view(np.float32)

    return pack


def example_matrix(pattern: SparsePattern, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """A random float32 matrix of shape (rows, columns) whose pattern is the given one.

    Raises:
        EdgeIRError: the pattern has more pairs than such a matrix can hold.
    """
    generator = np.random.default_rng(seed)
    most = (columns + 1) // 2
    if pattern.pairs > rows * most:
        raise EdgeIRError("a pattern has more nonzeros than its matrix", expected=f"{rows} x {columns}", got=pattern)
    counts = np.minimum(generator.multinomial(pattern.pairs, np.full(rows, 1 / rows)), most)
    while counts.sum() < pattern.pairs:
        counts[generator.choice(np.flatnonzero(counts < most))] += 1
    matrix = np.zeros((rows, columns), np.float32)
    for row, count in enumerate(counts):
        chosen = generator.permutation(columns)[: 2 * count]
        matrix[row, chosen] = generator.standard_normal(chosen.size) + 3.0
    return matrix
