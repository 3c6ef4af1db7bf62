"""The losses of distillation, as functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from edgeir.errors import EdgeIRError


def response_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 4.0) -> torch.Tensor:
    """τ²·H(softmax(z_T/τ), softmax(z_S/τ)), mean over the samples (Hinton, Vinyals & Dean 2015, arXiv:1503.02531).

    The factor τ² keeps the gradient's size while τ is varied.

    Args:
        student: logits (N, classes, …).
        teacher: logits of the same shape; no gradient flows there.
        temperature: τ > 0.

    Raises:
        EdgeIRError: shapes differ.
    """
    _check_equal("logits", student, teacher)
    target = F.softmax(teacher.detach() / temperature, dim=1)
    entropy = -(target * F.log_softmax(student / temperature, dim=1)).sum(1)
    return temperature**2 * entropy.mean()


def mutual_loss(own: torch.Tensor, peer: torch.Tensor) -> torch.Tensor:
    """KL(softmax(z_peer) ‖ softmax(z_own)), mean over the samples (Zhang et al. 2018, arXiv:1706.00384, equation 5).

    Args:
        own: logits (N, classes, …) of the network that learns.
        peer: logits of the same shape; no gradient flows there.

    Raises:
        EdgeIRError: shapes differ.
    """
    _check_equal("logits", own, peer)
    target = F.log_softmax(peer.detach(), dim=1)
    return (target.exp() * (target - F.log_softmax(own, dim=1))).sum(1).mean()


def feature_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean of (F_S − F_T)² over all elements (FitNets: Romero et al. 2015, arXiv:1412.6550, equation 3, scaled).

    Args:
        student: features, through an adapter where sizes differed.
        teacher: features of the same shape; no gradient flows there.

    Raises:
        EdgeIRError: shapes differ.
    """
    _check_equal("features", student, teacher)
    return F.mse_loss(student, teacher.detach())


def attention_map(features: torch.Tensor) -> torch.Tensor:
    """Q/‖Q‖₂ with Q the sum over channels of F², flattened (Zagoruyko & Komodakis 2017, arXiv:1612.03928, section 3.1).

    Args:
        features: (N, C, *S).

    Returns:
        (N, product of S), each row of length 1.
    """
    return F.normalize(features.square().sum(1).flatten(1), dim=1)


def attention_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """‖Q_S/‖Q_S‖ − Q_T/‖Q_T‖‖₂², mean over the samples (Zagoruyko & Komodakis 2017, equation 2).

    The norms are squared, as in the authors' code. Channels may differ; of two spatial sizes the larger map is averaged
    down to the smaller.

    Args:
        student: features (N, C, *S).
        teacher: features (N, C', *S'); no gradient flows there.
    """
    student, teacher = same_size(student, teacher.detach())
    return (attention_map(student) - attention_map(teacher)).square().sum(1).mean()


def same_size(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with the smaller spatial size of each axis, by averaging.

    Raises:
        EdgeIRError: ranks differ, or are not those of features.
    """
    if first.ndim != second.ndim or not 2 <= first.ndim <= 5:
        raise EdgeIRError("features cannot be compared", expected=list(second.shape), got=list(first.shape))
    if first.ndim == 2 or first.shape[2:] == second.shape[2:]:
        return first, second
    size = [min(a, b) for a, b in zip(first.shape[2:], second.shape[2:], strict=True)]
    pool = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}[first.ndim]
    first, second = (item if list(item.shape[2:]) == size else pool(item, size) for item in (first, second))
    return first, second


def _check_equal(what: str, student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape != teacher.shape:
        raise EdgeIRError(
            f"the {what} of two networks differ in shape", expected=list(teacher.shape), got=list(student.shape)
        )
