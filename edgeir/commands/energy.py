"""An estimate of the energy of one inference, from counts of operations and bytes.

Constants: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9: a 45 nm
process at 0.9 V. They rank alternatives; a newer process needs less. Not counted: fetching and decoding instructions
(about 70 pJ each there), leakage, and everything but multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeir.ir import Graph, graph_statistics

MAC_PICOJOULES: Mapping[str, float] = {
    "float64": 4 * (3.7 + 0.9),
    "float32": 3.7 + 0.9,
    "float16": 1.1 + 0.4,
    "bfloat16": 1.1 + 0.4,
    "int32": 3.1 + 0.1,
    "int8": 0.2 + 0.1,
    "uint8": 0.2 + 0.1,
}
"""Multiplication and addition, by the type of the operands; int8 adds in 32 bits. float64 is not in the source: taken
as four times float32, as the area of a multiplier grows."""

CACHE_PICOJOULES_PER_BYTE = 100 / 8
"""64 bits from a cache of 1 MB."""

DRAM_PICOJOULES_PER_BYTE = (1300 / 8, 2600 / 8)
"""64 bits from DRAM: low and high."""

SOURCE = "Horowitz, ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V)"


@dataclass(frozen=True)
class Energy:
    """Microjoules of one inference.

    Attributes:
        arithmetic: multiply-accumulates.
        cache: intermediate values, written and read once per use.
        dram_low, dram_high: parameters, inputs and outputs, once each.
    """

    arithmetic: float
    cache: float
    dram_low: float
    dram_high: float

    def rows(self) -> dict[str, str]:
        """The figures for people."""
        low, high = (self.arithmetic + self.cache + dram for dram in (self.dram_low, self.dram_high))
        return {
            "arithmetic": f"{self.arithmetic:.3g} µJ",
            "intermediate values in cache": f"{self.cache:.3g} µJ",
            "parameters, inputs, outputs in DRAM": f"{self.dram_low:.3g} to {self.dram_high:.3g} µJ",
            "total": f"{low:.3g} to {high:.3g} µJ",
            "constants": SOURCE,
        }


def graph_energy(graph: Graph) -> Energy:
    """The estimate for a graph with fixed shapes.

    Raises:
        EdgeIRError: a dimension is symbolic.
    """
    statistics = graph_statistics(graph)
    arithmetic = 0.0
    for row in statistics.per_node:
        types = [value.type.dtype for value in row.node.present_inputs]
        arithmetic += row.macs * MAC_PICOJOULES.get(types[0] if types else "float32", MAC_PICOJOULES["float32"])
    boundary = sum(value.type.bytes for value in (*graph.inputs, *graph.outputs))
    outside = statistics.parameter_bytes + boundary
    inside = max(0, statistics.bytes_moved - outside)
    return energy(arithmetic, inside, outside)


def energy(arithmetic_picojoules: float, cache_bytes: int, dram_bytes: int) -> Energy:
    """From picojoules and bytes to microjoules."""
    low, high = DRAM_PICOJOULES_PER_BYTE
    parts = (arithmetic_picojoules, cache_bytes * CACHE_PICOJOULES_PER_BYTE, dram_bytes * low, dram_bytes * high)
    return Energy(*(part * 1e-6 for part in parts))
