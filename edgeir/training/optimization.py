"""Optimizers by name, and learning rates as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from edgeir.errors import EdgeIRError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step")


def make_optimizer(
    name: str,
    parameters: Sequence[tuple[str, torch.nn.Parameter]],
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """An optimizer; weight decay acts on parameters with an axis longer than 1 in at least two places.

    Biases, the vectors of normalisations and quantization scales are left undecayed: shrinking them removes no
    capacity (He et al. 2019, "Bag of tricks", section 2.3).

    Args:
        name: `sgd` (Nesterov momentum), `adam` or `adamw`.
        parameters: name and parameter.
        learning_rate: before the schedule's factor.
        weight_decay: factor of the squared norm; decoupled in `adamw`.
        momentum: of `sgd`.

    Raises:
        EdgeIRError: unknown name, a number out of range, or nothing to train.
    """
    if not parameters:
        raise EdgeIRError("there is nothing to train", got="no parameter that needs a gradient")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise EdgeIRError("the learning rate must be positive", got=learning_rate)
    if not 0 <= momentum < 1:
        raise EdgeIRError("momentum is out of range", expected="0 ≤ momentum < 1", got=momentum)
    decayed = [parameter for _, parameter in parameters if _is_matrix(parameter)]
    others = [parameter for _, parameter in parameters if not _is_matrix(parameter)]
    groups = [
        {"params": chosen, "weight_decay": decay}
        for chosen, decay in ((decayed, weight_decay), (others, 0.0))
        if chosen
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    # One kernel instead of a dozen a parameter: small networks spend less time in Python.
    fused = all(parameter.is_floating_point() for _, parameter in parameters)
    if name == "adam":
        return torch.optim.Adam(groups, lr=learning_rate, fused=fused)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
    raise EdgeIRError("unknown optimizer", expected=", ".join(OPTIMIZERS), got=name)


def schedule_factor(schedule: str, step: int, steps: int, warmup: int = 0, decays: int = 3) -> float:
    """What the learning rate is multiplied by at a step; a function of the step alone, so nothing is stored.

    Args:
        schedule: `constant`; `cosine`: (1 + cos(π·t)) / 2 (Loshchilov & Hutter 2017); `step`: 10^−⌊decays·t⌋, all with
            t the share of the steps after the warm-up that are done.
        step: steps done.
        steps: steps in all.
        warmup: steps at the start in which the factor grows linearly to 1.
        decays: equal stretches of `step`.

    Raises:
        EdgeIRError: unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise EdgeIRError("unknown schedule", expected=", ".join(SCHEDULES), got=schedule)
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "step":
        return 10.0 ** -min(decays - 1, math.floor(decays * done))
    return 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def _is_matrix(parameter: torch.Tensor) -> bool:
    return sum(size > 1 for size in parameter.shape) >= 2
