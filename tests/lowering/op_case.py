"""Small cases of every operator, shared by the tests of its compiled form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeir.ir.dtype import numpy_dtype

Maker = Callable[[np.random.Generator], np.ndarray]
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "float16", "bfloat16")
FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")


@dataclass(frozen=True)
class OpCase:
    """An operator applied to random inputs, or to inputs that are constants of the graph.

    Attributes:
        op: operator name.
        inputs: how each input is made; None for one that is absent.
        attributes: the operator's attributes.
        tolerance: relative to the largest finite magnitude of the expected result; 0: bits must be equal.
        constants: positions of the inputs that are constants.
    """

    op: str
    inputs: Sequence[Maker | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    constants: frozenset[int] = frozenset()
    label: str = ""

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"


def random(shape: Sequence[int], dtype: str = "float32", low: float = -4, high: float = 4) -> Maker:
    """Random numbers of a type between two bounds."""

    def make(rng: np.random.Generator) -> np.ndarray:
        if dtype == "bool":
            return rng.random(shape) < 0.5
        if "int" in dtype:
            least = max(low, 0) if dtype.startswith("uint") else low
            values = rng.integers(int(least), int(high) + 1, size=shape)
            return values.astype("int8" if dtype in ("int4", "uint4") else values.dtype).astype(numpy_dtype(dtype))
        return (
            rng.uniform(low, high, shape)
            .astype("float64" if dtype == "float64" else "float32")
            .astype(numpy_dtype(dtype))
        )

    return make


def array(values: Any, dtype: str = "float32") -> Maker:
    """Given numbers."""
    return lambda rng: np.asarray(values).astype(numpy_dtype(dtype))


SPECIAL = array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 0.5, 2.5, -0.5, 1e30, -1e-30])
TOLERANCE = {"float32": 2e-6, "float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}
