"""How much each row of the compression table trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeir.training.fit_options import FitOptions

BATCH = 128
PRECISION = "bfloat16"
AUGMENT = ("flip", "shift=2")
HELD_OUT = 5000
"""The last training images, which nothing learns from: settings are chosen by them, never by the test images."""

SPARSITIES = (0.44, 0.71, 0.84, 0.89, 0.9)
"""Shares of zeros after the rounds of iterative pruning, of all weights of convolutions and products:
0.9·(1 − (1 − t)³) at t = 1/5 … 1 (Zhu & Gupta 2017, arXiv:1710.01878)."""

RECOVERY = {"hard": 0.5, "response": 0.5, "temperature": 2.0}
"""What is compressed learns again from the labels and from the float network (Hinton, Vinyals & Dean 2015)."""

STUDENT = {"stem": 8, "stages": ((12, 2, 2, 2), (24, 4, 2, 3), (44, 4, 2, 2)), "head": 112}
"""A network like the large one, about half as wide: 24.7 % of its parameters."""

STUDENT_LOSSES: dict[str, dict[str, float]] = {
    "response": {"hard": 0.3, "response": 0.7, "temperature": 3.0},
    "feature": {"hard": 1.0, "response": 0.0, "feature": 1.0},
    "attention": {"hard": 1.0, "response": 0.0, "attention": 2.0},
}

RECIPE = {"target_macs": 0.45, "prune_epochs_factor": 2.0}
"""The whole recipe removes a little more, and learns longer after it."""

LONGER = 2.0
"""How many times longer a pruned network learns in a row that compares no scores."""

LAST_ROUND = 16.0
"""The last round of iterative pruning learns so many times longer than those before it,"""

SPARSE_RATE = 3e-3
"""and all of them with nearly the rate of the first training (Renda, Frankle & Carbin 2020, arXiv:2003.02389)."""


@dataclass(frozen=True)
class Plan:
    """Epochs of all training images, times `scale`.

    Attributes:
        scale: factor of all of them.
        images: training images; the first so many, all but those held out if None.
        float_network: of the network where none is given.
        aware: of training with rounded weights.
        prune: after channels are removed; rows that learn `LONGER`, and the recipe, times their factor.
        round: after each round of setting weights to zero.
        student: of every student.
    """

    scale: float = 1.0
    images: int | None = None
    float_network: float = 16.0
    aware: float = 2.0
    prune: float = 4.0
    round: float = 1.0
    student: float = 4.0

    def options(self, epochs: float, samples: int, learning_rate: float, seed: int) -> FitOptions:
        """Options of a training of so many epochs, which may be fractions."""
        steps = max(1, round(epochs * self.scale * samples / BATCH))
        return FitOptions(
            steps=steps,
            batch_size=BATCH,
            learning_rate=learning_rate,
            weight_decay=0.02,
            warmup=min(0.5, 0.1 * epochs * self.scale),
            precision=PRECISION,
            seed=seed,
        )

    def settings(self, row: str) -> dict[str, Any]:
        """What decides the result of a row that is trained, as the report states it."""
        found: dict[str, Any] = {
            "scale": self.scale,
            "float_network": self.float_network,
            "batch_size": BATCH,
            "precision": PRECISION,
            "augment": list(AUGMENT),
        }
        if row.startswith("student"):
            kind = row.removeprefix("student, ")
            network = {name: list(value) if isinstance(value, tuple) else value for name, value in STUDENT.items()}
            return found | {"epochs": self.student, "network": network, "losses": STUDENT_LOSSES.get(kind)}
        found["recovery"] = RECOVERY
        if row.startswith("QAT"):
            return found | {"epochs": self.aware}
        if row.startswith("pruned"):
            return found | {"epochs": self.prune * (LONGER if row.endswith("longer") else 1.0)}
        if "sparse" in row:
            return found | {
                "epochs": self.round,
                "last_round": LAST_ROUND,
                "rate": SPARSE_RATE,
                "sparsities": list(SPARSITIES),
                "scope": "adaptive",
            }
        return found | {"epochs": [self.prune, self.aware], "recipe": RECIPE}
