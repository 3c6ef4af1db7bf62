"""How much each row of the compression table trains."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeir.training.fit_options import FitOptions

BATCH = 64
AUGMENT = ("flip", "shift=2")
SPARSITIES = (0.5, 0.7, 0.8, 0.86, 0.9)
"""Shares of zeros after the rounds of iterative pruning."""

RECOVERY = {"hard": 0.5, "response": 0.5, "temperature": 2.0}
"""What is compressed learns again from the labels and from the float network (Hinton, Vinyals & Dean 2015)."""

STUDENT = {"stem": 8, "stages": ((12, 2, 2, 2), (24, 4, 2, 3), (48, 4, 2, 2)), "head": 160}
"""A network like the large one, half as wide: a quarter of its parameters."""

STUDENT_LOSSES: dict[str, dict[str, float]] = {
    "response": {"hard": 0.5, "response": 0.5, "temperature": 2.0},
    "feature": {"hard": 1.0, "response": 0.0, "feature": 1.0},
    "attention": {"hard": 1.0, "response": 0.0, "attention": 2.0},
}


@dataclass(frozen=True)
class Plan:
    """Epochs of all training images, times `scale`.

    Attributes:
        scale: factor of all of them.
        images: training images; the first so many, all if None.
        float_network: of the network where none is given.
        aware: of training with rounded weights.
        prune: after channels are removed.
        round: after each round of setting weights to zero.
        student: of every student.
    """

    scale: float = 1.0
    images: int | None = None
    float_network: float = 16.0
    aware: float = 3.0
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
            seed=seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """As the report states it."""
        return {
            **asdict(self),
            "batch_size": BATCH,
            "augment": list(AUGMENT),
            "sparsities": list(SPARSITIES),
            "recovery": RECOVERY,
            "student_network": {
                name: list(value) if isinstance(value, tuple) else value for name, value in STUDENT.items()
            },
            "student_losses": STUDENT_LOSSES,
        }
