"""Losses by name, and the checks of what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from edgeir.errors import EdgeIRError

Loss = Callable[[Any, Any], torch.Tensor]
"""Of the model's output (or all outputs by name, where there are several) and the targets; a scalar."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """−log softmax(logits)[label], mean over all samples (and positions).

    Args:
        logits: (N, classes, …).
        labels: integers (N, …), or probabilities in the shape of the logits.
        smoothing: share of the target that is spread over all classes (Szegedy et al. 2016).

    Raises:
        EdgeIRError: shapes do not fit, or a label is not a class.
    """
    if labels.is_floating_point():
        if labels.shape != logits.shape:
            raise _shapes(logits, labels, "probabilities in the shape of the output, or integer labels")
    else:
        labels = checked_labels(logits, labels)
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def checked_labels(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Labels as int64.

    Raises:
        EdgeIRError: shapes do not fit, or a label is not a class.
    """
    if logits.ndim < 2 or labels.shape != (*logits.shape[:1], *logits.shape[2:]):
        raise _shapes(logits, labels, "labels (N, …) for an output (N, classes, …)")
    labels = labels.long()
    classes = logits.shape[1]
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        position = tuple(wrong.nonzero()[0].tolist())
        raise EdgeIRError(
            "a label is out of range",
            where=f"sample {position[0]} of the batch",
            expected=f"0 … {classes - 1}",
            got=int(labels[position]),
        )
    return labels


def mean_squared_error(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of (output − target)² over all elements.

    Raises:
        EdgeIRError: shapes differ.
    """
    _check_equal(output, targets)
    return F.mse_loss(output, targets.to(output.dtype))


def mean_absolute_error(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of |output − target| over all elements.

    Raises:
        EdgeIRError: shapes differ.
    """
    _check_equal(output, targets)
    return F.l1_loss(output, targets.to(output.dtype))


def huber(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over all elements of d²/2 where d = |output − target| < 1, of d − 1/2 elsewhere (Huber 1964).

    Raises:
        EdgeIRError: shapes differ.
    """
    _check_equal(output, targets)
    return F.huber_loss(output, targets.to(output.dtype))


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of −t·log σ(z) − (1 − t)·log(1 − σ(z)) over all elements.

    Raises:
        EdgeIRError: shapes differ, or a target is outside 0 … 1.
    """
    _check_equal(logits, targets)
    targets = targets.to(logits.dtype)
    if ((targets < 0) | (targets > 1)).any():
        raise EdgeIRError("a target is out of range", expected="0 … 1")
    return F.binary_cross_entropy_with_logits(logits, targets)


LOSSES: Mapping[str, Loss] = {
    "cross-entropy": cross_entropy,
    "mse": mean_squared_error,
    "l1": mean_absolute_error,
    "huber": huber,
    "binary-cross-entropy": binary_cross_entropy,
}


def find_loss(loss: str | Loss) -> Loss:
    """A loss by name; a callable is returned as it is.

    Raises:
        EdgeIRError: unknown name.
    """
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise EdgeIRError("unknown loss", expected=", ".join(LOSSES), got=loss)
    return LOSSES[loss]


def _check_equal(output: torch.Tensor, targets: torch.Tensor) -> None:
    # Broadcasting (N, 1) against (N) would give a loss over N² pairs without a word.
    if output.shape != targets.shape:
        raise _shapes(output, targets, "targets in the shape of the output")


def _shapes(output: torch.Tensor, targets: torch.Tensor, expected: str) -> EdgeIRError:
    got = f"output {list(output.shape)}, targets {targets.dtype} {list(targets.shape)}"
    return EdgeIRError("targets do not fit the output", expected=expected, got=got)
