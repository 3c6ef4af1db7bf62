"""Operators as tensor computations: one file per family, registered by operator name."""

from edgeir.lowering.compute import (
    casting,
    convolution,
    elementwise,
    generation,
    indexing,
    matrix,
    movement,
    normalization,
    pooling,
    reduction,
    resampling,
    scan,
    scatter,
    sorting,
)
from edgeir.lowering.compute.apply import apply
from edgeir.lowering.compute.registry import Call, Tables, compute, computed_ops

__all__ = [
    "Call",
    "Tables",
    "apply",
    "casting",
    "compute",
    "computed_ops",
    "convolution",
    "elementwise",
    "generation",
    "indexing",
    "matrix",
    "movement",
    "normalization",
    "pooling",
    "reduction",
    "resampling",
    "scan",
    "scatter",
    "sorting",
]
