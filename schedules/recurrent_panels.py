"""The state weights of a recurrent layer in panels: all gates of a few units, one element of the state after another.

A panel is (H, gates, width): what one element of the state is multiplied with lies in one piece, and a panel is read
from beginning to end. The last panel overlaps the one before it where the units do not divide evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeir.schedules.recurrent_problem import Recurrence


@dataclass(frozen=True)
class Panels:
    """The panels of all phases of one layer, flat for each direction.

    Attributes:
        problem: the layer.
        width: units of a panel, at most H.
    """

    problem: Recurrence
    width: int

    @property
    def count(self) -> int:
        """Panels of a phase."""
        return math.ceil(self.problem.hidden / self.width)

    def offset(self, phase: int) -> int:
        """Where the panels of a phase begin."""
        gates = sum(len(phase) for phase in self.problem.phases[:phase])
        return self.count * self.problem.hidden * self.width * gates

    @property
    def shape(self) -> tuple[int, int]:
        """(D, elements of one direction)."""
        return self.problem.directions, self.offset(len(self.problem.phases))

    def packing(self) -> Callable[[np.ndarray], np.ndarray]:
        """Packs r (D, G·H, H) into `shape`."""
        problem, width = self.problem, self.width
        starts = [min(panel * width, problem.hidden - width) for panel in range(self.count)]

        def pack(r: np.ndarray) -> np.ndarray:
            by_gate = r.reshape(problem.directions, problem.gates, problem.hidden, problem.hidden)
            pieces = []
            for gates in problem.phases:
                chosen = by_gate[:, list(gates)]
                panels = np.stack([chosen[:, :, start : start + width] for start in starts], axis=1)
                # (D, panel, gate, unit, k) → (D, panel, k, gate, unit)
                pieces.append(panels.transpose(0, 1, 4, 2, 3).reshape(problem.directions, -1))
            return np.ascontiguousarray(np.concatenate(pieces, axis=1))

        return pack
