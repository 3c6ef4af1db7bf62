"""Operators without inputs."""

from __future__ import annotations

import numpy as np

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import cast
from edgeir.lowering.compute.registry import Call, compute


@compute("iota")
def iota(call: Call) -> te.Tensor:
    """0, 1, …, size − 1."""
    return te.compute(call.output_shape, lambda i: cast(i.astype("int64"), call.dtype), name="iota")


@compute("dims")
def dims(call: Call) -> te.Tensor:
    """The values, as a table."""
    table = call.tables.add(np.array(call.integers("values"), dtype=np.int64).reshape(-1))
    return te.compute(call.output_shape, lambda *i: table(*i), name="dims")
