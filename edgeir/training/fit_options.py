"""How a training run is done, and what it gave."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.training.optimization import OPTIMIZERS, SCHEDULES

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class FitOptions:
    """How a training run is done. Everything here decides the result; where it runs and reports does not.

    Attributes:
        epochs: passes over the data; or
        steps: optimizer steps in all.
        batch_size: samples in a batch, of datasets and arrays.
        shuffle: whether datasets and arrays are read in another order each epoch.
        optimizer: `sgd`, `adam` or `adamw`.
        learning_rate: the highest, before the schedule.
        weight_decay: factor of the squared norm of matrices and kernels.
        momentum: of `sgd`.
        schedule: `constant`, `cosine` or `step`.
        warmup: epochs (also fractions) of linear growth at the start; of all steps where an epoch's length is unknown.
        gradient_norm: longer gradients are scaled down to this norm; None for no limit.
        patience: epochs without improvement after which training stops early; None to go on to the end.
        keep_best: whether the weights of the best epoch are kept at the end (needs validation data).
        monitor: the metric that is to improve: `loss`, or one of the metrics.
        precision: `float32`, or `bfloat16`: convolutions and products, and what lies between them, are computed in it,
            weights and optimizer stay float32. Faster on processors with instructions for it, slower on others.
        seed: of the data order, augmentation and the global generators.
    """

    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 128
    shuffle: bool = True
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.0
    gradient_norm: float | None = None
    patience: int | None = None
    keep_best: bool = False
    monitor: str = "loss"
    precision: str = "float32"
    seed: int = 0

    def check(self) -> None:
        """Checks what can be checked without data.

        Raises:
            EdgeIRError: neither or both of epochs and steps are given, or something is out of range.
        """
        if (self.epochs is None) == (self.steps is None):
            raise EdgeIRError("give epochs or steps", got=f"epochs={self.epochs}, steps={self.steps}")
        for name in ("epochs", "steps", "batch_size", "patience"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise EdgeIRError(f"{name} is out of range", expected="at least 1", got=number)
        if self.optimizer not in OPTIMIZERS:
            raise EdgeIRError("unknown optimizer", expected=", ".join(OPTIMIZERS), got=self.optimizer)
        if self.schedule not in SCHEDULES:
            raise EdgeIRError("unknown schedule", expected=", ".join(SCHEDULES), got=self.schedule)
        if self.precision not in PRECISIONS:
            raise EdgeIRError("unknown precision", expected=", ".join(PRECISIONS), got=self.precision)
        if self.warmup < 0:
            raise EdgeIRError("warm-up is out of range", expected="at least 0", got=self.warmup)


def fit_options(settings: dict[str, Any]) -> FitOptions:
    """Options from names and values.

    Raises:
        EdgeIRError: a name is unknown.
    """
    known = [item.name for item in fields(FitOptions)]
    for name in settings:
        if name not in known:
            raise EdgeIRError("unknown training option", expected=", ".join(known), got=name)
    options = FitOptions(**settings)
    options.check()
    return options


@dataclass
class FitResult:
    """What a training run gave.

    Attributes:
        steps: optimizer steps done, those of killed runs included.
        epochs: epochs begun.
        history: one row per epoch: epoch, step, training loss, learning rate, and the validation's metrics under
            `validation/…`.
        best: the best value of the monitored metric; None without validation.
        best_epoch: when.
        stopped_early: whether patience ran out.
    """

    steps: int = 0
    epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int | None = None
    stopped_early: bool = False
