"""Operators as tensor computations: one file per family, registered by operator name."""

from edgeir.lowering.compute import (
    casting,
    codes,
    convolution,
    deformable,
    elementwise,
    generation,
    indexing,
    integer,
    matrix,
    movement,
    normalization,
    pooling,
    recurrent,
    reduction,
    regions,
    resampling,
    scan,
    scatter,
    sorting,
)
from edgeir.lowering.compute.apply import apply
from edgeir.lowering.compute.registry import Call, compute, computed_ops
from edgeir.lowering.compute.tables import Tables

__all__ = [
    "Call",
    "Tables",
    "apply",
    "casting",
    "codes",
    "compute",
    "computed_ops",
    "convolution",
    "deformable",
    "elementwise",
    "generation",
    "indexing",
    "integer",
    "matrix",
    "movement",
    "normalization",
    "pooling",
    "recurrent",
    "reduction",
    "regions",
    "resampling",
    "scan",
    "scatter",
    "sorting",
]
