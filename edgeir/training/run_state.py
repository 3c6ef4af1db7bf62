"""The loop of a training run, and its state between steps."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeir.errors import EdgeIRError
from edgeir.training.checkpoints import (
    Checkpoint,
    optimizer_state,
    random_state,
    restore_optimizer,
    restore_random_state,
)
from edgeir.training.data import BatchSource, LoaderBatches, to_device
from edgeir.training.fit_options import FitOptions, FitResult
from edgeir.training.metrics import images_channels_last
from edgeir.training.metrics_log import MetricsLog
from edgeir.training.objective import Objective
from edgeir.training.optimization import make_optimizer, schedule_factor, set_learning_rate
from edgeir.training.progress import show_progress

CHECKPOINT, LOG = "checkpoint.npz", "metrics.jsonl"


@dataclass
class Run:
    """One training run; see `fit` for the fields."""

    module: torch.nn.Module
    objective: Objective
    source: BatchSource
    options: FitOptions
    validation: Any
    metrics: tuple[str, ...]
    device: torch.device
    folder: Path | None
    checkpoint_steps: int | None
    checkpoint_seconds: float
    channels_last: bool
    on_step: Callable[[int, float], None] | None

    def __post_init__(self) -> None:
        options = self.options
        self.per_epoch = self.source.batches_per_epoch()
        if options.steps is not None:
            self.total = options.steps
        elif self.per_epoch is not None:
            self.total = int(options.epochs or 0) * self.per_epoch
        else:
            raise EdgeIRError("the data has no length", hint="give steps instead of epochs")
        self.warmup = round(options.warmup * (self.per_epoch if self.per_epoch is not None else self.total))
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        named += [(f"objective.{name}", p) for name, p in self.objective.named_parameters() if p.requires_grad]
        self.parameters = [parameter for _, parameter in named]
        self.optimizer = make_optimizer(
            options.optimizer, named, options.learning_rate, options.weight_decay, options.momentum
        )
        self.result = FitResult()
        self.batch = 0
        self.loss_sum = 0.0
        self.waited = 0
        self.finished = False
        self.best: dict[str, torch.Tensor] = {}
        self.epoch_random = ({}, {})
        self.generator = self.source.loader.generator if isinstance(self.source, LoaderBatches) else None

    # The loop

    def run(self, progress: bool) -> FitResult:
        """Trains to the end, from the checkpoint if there is one."""
        self.identity = self._identity()
        path = None if self.folder is None else self.folder / CHECKPOINT
        if path is not None and path.exists():
            self._restore(Checkpoint.load(path), path)
        else:
            _seed(self.options.seed)
            self.log = MetricsLog(None if self.folder is None else self.folder / LOG)
        with show_progress(progress, self.total, self.result.steps) as self._show:
            while not self.finished:
                self._epoch()
        if self.options.keep_best and self.best:
            self.module.load_state_dict({name: tensor.clone() for name, tensor in self.best.items()})
        return self.result

    def _epoch(self) -> None:
        result = self.result
        if self.batch == 0:
            self.epoch_random = random_state(self.generator)
            result.epochs += 1
            batches = self.source.epoch(result.epochs - 1)
        else:
            here = random_state(self.generator)
            # The order is drawn as it was at the epoch's start; what follows it goes on from the checkpoint.
            restore_random_state(*self.epoch_random, self.generator)
            batches = self.source.epoch(result.epochs - 1, self.batch)
            restore_random_state(*here, self.generator)
        self.module.train()
        self.objective.train()
        saved = time.monotonic()
        for inputs, targets in batches:
            self._step(inputs, targets)
            if result.steps >= self.total:
                break
            due = self.checkpoint_steps is not None and result.steps % self.checkpoint_steps == 0
            if due or time.monotonic() - saved > self.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
        if self.batch == 0:
            raise EdgeIRError("there is no training data", where=f"epoch {result.epochs}", got="0 batches")
        self._end_epoch()

    def _step(self, inputs: Any, targets: Any) -> None:
        result = self.result
        rate = self.options.learning_rate * schedule_factor(
            self.options.schedule, result.steps, self.total, self.warmup
        )
        set_learning_rate(self.optimizer, rate)
        inputs, targets = to_device(inputs, self.device), to_device(targets, self.device)
        if self.channels_last:
            inputs = images_channels_last(inputs)
        place = f"epoch {result.epochs}, step {result.steps + 1}"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
                loss, parts = self.objective(self.module, inputs, targets)
        except EdgeIRError as error:
            where = place if error.where is None else f"{place}, {error.where}"
            raise type(error)(
                error.what, where=where, expected=error.expected, got=error.got, hint=error.hint, details=error.details
            ) from None
        value = float(loss.detach())
        if not math.isfinite(value):
            raise EdgeIRError(
                "the loss is not finite",
                where=place,
                got=value,
                hint=f"lower the learning rate (now {rate:g}), limit gradient_norm, or look for bad inputs",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.options.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.options.gradient_norm)
        self.optimizer.step()
        result.steps += 1
        self.batch += 1
        self.loss_sum += value
        row = {"step": result.steps, "epoch": result.epochs, "loss": value, "learning_rate": rate}
        self.log.append(row | {name: float(part) for name, part in parts.items()})
        self._show(result.steps, f"epoch {result.epochs}  loss {self.loss_sum / self.batch:.4f}")
        if self.on_step is not None:
            self.on_step(result.steps, value)

    def _end_epoch(self) -> None:
        result, options = self.result, self.options
        row: dict[str, Any] = {"epoch": result.epochs, "step": result.steps, "loss": self.loss_sum / self.batch}
        if self.validation is not None:
            values = self.objective.evaluate(
                self.module, self.validation, self.metrics, max(options.batch_size, 256), self.channels_last
            )
            row |= {f"validation/{name}": value for name, value in values.items()}
            self._compare(values[options.monitor])
        result.history.append(row)
        self.log.append(row)
        self.batch, self.loss_sum = 0, 0.0
        result.stopped_early = options.patience is not None and self.waited >= options.patience
        self.finished = result.steps >= self.total or result.stopped_early
        self._save()

    def _compare(self, value: float) -> None:
        result = self.result
        falling = self.options.monitor in ("loss", "mse")
        if result.best is None or (value < result.best if falling else value > result.best):
            result.best, result.best_epoch, self.waited = value, result.epochs, 0
            if self.options.keep_best:
                self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}
        else:
            self.waited += 1

    # Its state

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to belong to this run."""
        digest = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        options = json.loads(json.dumps(asdict(self.options)))
        objective = [[name, list(tensor.shape)] for name, tensor in self.objective.state_dict().items()]
        return {
            "options": options,
            "steps": self.total,
            "initial weights": digest.hexdigest(),
            "objective": [type(self.objective).__name__, objective],
        }

    def _save(self) -> None:
        if self.folder is None:
            return
        checkpoint = Checkpoint()
        optimizer_tensors, optimizer_values = optimizer_state(self.optimizer)
        random_tensors, random_values = random_state(self.generator)
        checkpoint.add("module", self.module.state_dict())
        checkpoint.add("objective", self.objective.state_dict())
        checkpoint.add("optimizer", optimizer_tensors)
        checkpoint.add("random", random_tensors)
        checkpoint.add("epoch-random", self.epoch_random[0])
        checkpoint.add("best", self.best)
        checkpoint.values = {
            "identity": self.identity,
            "optimizer": optimizer_values,
            "random": random_values,
            "epoch-random": self.epoch_random[1],
            "result": asdict(self.result),
            "batch": self.batch,
            "loss_sum": self.loss_sum,
            "waited": self.waited,
            "finished": self.finished,
            "log_rows": self.log.rows,
        }
        checkpoint.save(self.folder / CHECKPOINT)

    def _restore(self, checkpoint: Checkpoint, path: Path) -> None:
        values = checkpoint.values
        for key, expected in self.identity.items():
            if values["identity"].get(key) != expected:
                raise EdgeIRError(
                    "the checkpoint belongs to another run",
                    where=str(path),
                    got=f"other {key}",
                    hint="remove the folder to start again, or choose another",
                )
        self.module.load_state_dict(checkpoint.part("module"))
        self.objective.load_state_dict(checkpoint.part("objective"))
        restore_optimizer(self.optimizer, checkpoint.part("optimizer"), values["optimizer"])
        restore_random_state(checkpoint.part("random"), values["random"], self.generator)
        self.epoch_random = (checkpoint.part("epoch-random"), values["epoch-random"])
        self.best = checkpoint.part("best")
        self.result = FitResult(**values["result"])
        self.batch, self.loss_sum = values["batch"], values["loss_sum"]
        self.waited, self.finished = values["waited"], values["finished"]
        self.log = MetricsLog(path.parent / LOG, values["log_rows"])


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
