"""Checking an artifact on the machine where it is: its golden inputs must give its golden outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.runtime.manifest import Manifest
from edgeir.runtime.session import Session

TOLERANCES: Mapping[str, float] = {
    "float64": 1e-8,
    "float32": 1e-3,
    "float16": 1e-2,
    "bfloat16": 5e-2,
    "float8_e4m3fn": 1e-1,
    "float8_e4m3fnuz": 1e-1,
    "float8_e5m2": 2e-1,
    "float8_e5m2fnuz": 2e-1,
}
"""Largest error relative to the output's range, by dtype; other dtypes must agree exactly."""

QUANTIZED_TOLERANCE = 2e-2
"""The same for every dtype where numbers are rounded to few bits: one that lies between two steps may go either way."""


@dataclass(frozen=True)
class OutputReport:
    """How one output compares with its golden value.

    Attributes:
        name, dtype: of the output.
        max_error: largest absolute difference (infinity where one has a NaN or infinity that the other lacks).
        relative_error: `max_error` over the range of the golden values (largest less smallest; the largest absolute
            value if they are all equal; 1 if they are all 0).
        cosine: cosine similarity of the two as vectors; 1 if both are zero.
        tolerance: the largest `relative_error` that passes.
    """

    name: str
    dtype: str
    max_error: float
    relative_error: float
    cosine: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.relative_error <= self.tolerance

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return (
            f"{self.name} ({self.dtype}): {verdict}, max error {self.max_error:.3g}, relative to range "
            f"{self.relative_error:.3g} (allowed {self.tolerance:.3g}), cosine {self.cosine:.8f}"
        )


@dataclass(frozen=True)
class VerifyReport:
    """The comparison of every output."""

    outputs: tuple[OutputReport, ...]

    @property
    def passed(self) -> bool:
        """Whether every output passed."""
        return all(output.passed for output in self.outputs)

    def __str__(self) -> str:
        return "\n".join(map(str, self.outputs))


def verify(path: str | os.PathLike[str], threads: int | None = None, tolerance: float | None = None) -> VerifyReport:
    """Run an artifact on its golden inputs and compare the outputs with the golden ones.

    Args:
        path: the artifact's folder.
        threads: as in `Session`.
        tolerance: largest error relative to an output's range, for every dtype; without it `TOLERANCES`, or
            `QUANTIZED_TOLERANCE` for a quantized model.

    Raises:
        ArtifactError: the artifact is damaged or made for another machine.
        EdgeIRError: an argument is out of range.
    """
    check_tolerance(tolerance)
    session = Session(path, threads)
    inputs, golden = session.artifact.load_golden()
    return compare_outputs(session.manifest, session.run(inputs), golden, tolerance)


def check_tolerance(tolerance: float | None) -> None:
    """Raise EdgeIRError unless `tolerance` is None or a number ≥ 0."""
    if tolerance is not None and not tolerance >= 0:
        raise EdgeIRError("A tolerance is a number ≥ 0.", where="tolerance", got=tolerance)


def compare_outputs(
    manifest: Manifest, results: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray], tolerance: float | None
) -> VerifyReport:
    """Compare outputs by name with the golden ones; `tolerance` as in `verify`."""
    if tolerance is None and manifest.quantized:
        tolerance = QUANTIZED_TOLERANCE
    return VerifyReport(
        tuple(
            compare(
                spec.name,
                spec.dtype,
                results[spec.name],
                golden[spec.name],
                TOLERANCES.get(spec.dtype, 0.0) if tolerance is None else float(tolerance),
            )
            for spec in manifest.outputs
        )
    )


def compare(name: str, dtype: str, got: np.ndarray, golden: np.ndarray, tolerance: float) -> OutputReport:
    """Compare two arrays of one shape; see `OutputReport` for the figures."""
    # longdouble would hold 64-bit integers whole, but it is no wider than float64 on ARM; equality is asked first.
    same = (got == golden) | ((got != got) & (golden != golden))
    if bool(np.all(same)):
        return OutputReport(name, dtype, 0.0, 0.0, 1.0, tolerance)
    left, right = got.astype(np.float64).ravel(), golden.astype(np.float64).ravel()
    finite = np.isfinite(left) & np.isfinite(right)
    if bool(np.any(~finite & ~np.asarray(same).ravel())):
        return OutputReport(name, dtype, float("inf"), float("inf"), float("nan"), tolerance)
    left, right = left[finite], right[finite]
    # Unequal integers above 2**53 may meet as float64; they differ by 1 at least.
    max_error = max(float(np.max(np.abs(left - right))), 0.0) or 1.0
    span = float(np.max(right) - np.min(right)) or float(np.max(np.abs(right))) or 1.0
    norms = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    cosine = float(left @ right) / norms if norms else 0.0
    return OutputReport(name, dtype, max_error, max_error / span, cosine, tolerance)
