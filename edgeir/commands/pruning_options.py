"""From the options of `edgeir prune` to a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.passes.pruning.prune_channels import PruneChannels
from edgeir.passes.pruning.prune_weights import PruneWeights
from edgeir.prune import WEIGHT_SCORES

CHANNEL_SCORES = ("l1", "l2", "weighted", "activation", "gradient", "taylor")


def pruning_pass(
    granularity: str,
    score: str,
    ratio: float | None,
    threshold: float | None,
    scope: str | None,
    target_macs: float | None,
    target_latency: float | None,
    round_to: int | None,
) -> PruneChannels | PruneWeights:
    """The pass that the options of `edgeir prune` describe.

    Raises:
        EdgeIRError: options contradict each other or are out of range.
    """
    if granularity == "channel":
        _choice("--score", score, CHANNEL_SCORES)
        _choice("--scope", scope or "uniform", ("uniform", "global"))
        return PruneChannels(
            ratio=ratio,
            score=score,  # pyright: ignore[reportArgumentType]
            scope=scope or "uniform",  # pyright: ignore[reportArgumentType]
            threshold=threshold,
            target_macs=target_macs,
            target_latency=target_latency,
            round_to=round_to,
        )
    if target_macs is not None or target_latency is not None:
        raise EdgeIRError(
            "zeros alone save no multiplications", where="--target-macs, --target-latency", got=granularity
        )
    _choice("--score", score, WEIGHT_SCORES)
    scope = {None: "tensor", "uniform": "tensor"}.get(scope, scope)
    _choice("--scope", scope or "tensor", ("tensor", "uniform", "global", "adaptive"))
    return PruneWeights(
        ratio=ratio,
        threshold=threshold,
        score=score,  # pyright: ignore[reportArgumentType]
        scope=scope,  # pyright: ignore[reportArgumentType]
        pattern="unstructured" if granularity == "weight" else granularity,
        block=round_to,
    )


def gradient_service(samples: Sequence[Mapping[str, np.ndarray]], labels: Path | None, loss: str) -> Callable[..., Any]:
    """The service "gradients" of `edgeir.training` for labelled samples.

    Args:
        samples: input name → array.
        labels: `.npy` file with as many targets along the first axis as all samples have along theirs.
        loss: name of the loss.

    Raises:
        EdgeIRError: there are no labels, they cannot be read or do not fit, or PyTorch is not installed.
    """
    if labels is None:
        raise EdgeIRError("gradients need the targets of the samples", where="--labels", expected="an .npy file")
    try:
        targets = np.load(labels, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EdgeIRError("cannot read labels", where=str(labels), expected="an .npy file", got=error) from None
    lengths = [len(next(iter(sample.values()))) for sample in samples]
    if not isinstance(targets, np.ndarray) or not targets.ndim or len(targets) != sum(lengths):
        raise EdgeIRError(
            "labels do not fit the samples",
            where=str(labels),
            expected=f"{sum(lengths)} along the first axis",
            got=f"{targets.dtype}{list(targets.shape)}" if isinstance(targets, np.ndarray) else "an archive",
        )
    try:
        import torch

        from edgeir.training.recipes.services import gradients
    except ImportError as error:
        raise EdgeIRError(
            "gradients need PyTorch", where="--score", got=error, hint="pip install 'edgeir[train]'"
        ) from None
    tensors = [torch.from_numpy(np.array(part)) for part in np.split(targets, np.cumsum(lengths)[:-1])]
    return gradients(list(samples), tensors, loss)


def share(text: str | None, option: str) -> float | None:
    """`0.5x` or `0.5` as a number.

    Raises:
        EdgeIRError: the text is no number.
    """
    if text is None:
        return None
    try:
        return float(text[:-1] if text.endswith("x") else text)
    except ValueError:
        raise EdgeIRError("not a share", where=option, expected="0.5x", got=text) from None


def _choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise EdgeIRError("no such choice", where=option, expected=" | ".join(choices), got=value)
