"""Training a model: fine-tuning of a graph's module, or of any torch module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from edgeir.errors import EdgeIRError
from edgeir.training.data import Augmentation, as_source
from edgeir.training.fit_options import FitOptions, FitResult, fit_options
from edgeir.training.losses import Loss
from edgeir.training.metrics import find_metrics
from edgeir.training.objective import Objective
from edgeir.training.run_state import Run

OnStep = Callable[[int, float], None]
"""Called after every step with the number of steps done and the step's loss."""


def fit(
    module: torch.nn.Module,
    data: Any,
    *,
    loss: str | Loss = "cross-entropy",
    objective: Objective | None = None,
    options: FitOptions | None = None,
    validation: Any = None,
    metrics: Sequence[str] = ("accuracy",),
    output: str | None = None,
    augment: Augmentation | None = None,
    folder: str | Path | None = None,
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = False,
    device: str | torch.device | None = None,
    channels_last: bool = False,
    on_step: OnStep | None = None,
    **settings: Any,
) -> FitResult:
    """Trains a model in place.

    With a folder, the run survives being killed at any moment: the same call continues from the last checkpoint and
    ends with the weights, bit for bit, and the metrics of a run that was never interrupted (same machine, same number
    of threads; data from worker processes or with randomness of its own from elsewhere than the global generators
    cannot be replayed). The global generators of torch, numpy and Python are seeded.

    Args:
        module: a `GraphModule`, or any module that returns a tensor or name → tensor.
        data: a DataLoader of (inputs, targets), a Dataset of (input, target), or arrays (inputs, targets).
        loss: `cross-entropy` (on logits; a final softmax is looked through), `mse`, `l1`, `huber`,
            `binary-cross-entropy`, or a callable of output and targets.
        objective: instead of a loss: what to minimise, such as `Distillation` or `MutualLearning`.
        options: how to train; or its fields as keywords, such as `epochs=3, learning_rate=1e-3`.
        validation: data as above, evaluated after each epoch.
        metrics: of the validation: `accuracy`, `top-5`, `mse`.
        output: name of the output that loss and metrics are about, where there are several.
        augment: changes each batch of inputs; for arrays.
        folder: where `checkpoint.npz` and `metrics.jsonl` are kept.
        checkpoint_steps: steps between checkpoints; by time alone if None.
        checkpoint_seconds: seconds between checkpoints; there is one at the end of every epoch besides.
        progress: whether to show progress on the terminal.
        device: where to train; a GPU if there is one, else the CPU.
        channels_last: whether images are handed over channels last in memory.
        on_step: called after every step.
        settings: fields of `FitOptions`, instead of `options`.

    Returns:
        The history. `module` has the weights of the last step, or of the best epoch with `keep_best`; it is in
        evaluation mode, on the device where it was.

    Raises:
        EdgeIRError: options that do not fit, no data, a batch of the wrong shape, a label out of range, a loss that is
            not finite (the message names epoch and step), or a checkpoint of another run.
    """
    if options is None:
        options = fit_options(settings)
    elif settings:
        raise EdgeIRError("give options or keywords, not both", got=", ".join(settings))
    options.check()
    find_metrics(metrics)
    _check_monitor(options, metrics, validation is not None)
    home = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    place = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    source = as_source(data, options.batch_size, shuffle=options.shuffle, seed=options.seed, augment=augment)
    goal = objective if objective is not None else Objective(loss, module, output)
    module.to(place)
    goal.to(place)
    if channels_last:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    run = Run(
        module=module,
        objective=goal,
        source=source,
        options=options,
        validation=validation,
        metrics=tuple(metrics),
        device=place,
        folder=None if folder is None else Path(folder),
        checkpoint_steps=checkpoint_steps,
        checkpoint_seconds=checkpoint_seconds,
        channels_last=channels_last,
        on_step=on_step,
    )
    try:
        return run.run(progress)
    finally:
        module.eval()
        module.to(home)
        goal.to(home)
        if channels_last:
            module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _check_monitor(options: FitOptions, metrics: Sequence[str], validated: bool) -> None:
    if options.monitor not in ("loss", *metrics):
        raise EdgeIRError("unknown metric to monitor", expected=", ".join(("loss", *metrics)), got=options.monitor)
    if not validated and (options.patience is not None or options.keep_best):
        raise EdgeIRError("early stopping and the best epoch need validation data", hint="pass validation=…")
