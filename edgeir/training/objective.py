"""What a training step minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgeir.errors import EdgeIRError
from edgeir.training.data import Inputs
from edgeir.training.losses import Loss, find_loss
from edgeir.training.model_outputs import graph_of, logits_name, run_model

LOGIT_LOSSES = ("cross-entropy",)


class OutputLoss:
    """A loss of a model's outputs and the targets.

    Args:
        loss: a name, or a callable of the output (of all outputs by name, if there are several) and the targets.
        module: the model. Where a named loss wants logits and the model ends in a softmax, the softmax's operand is
            captured.
        output: name of the output, where there are several.

    Attributes:
        capture: values of the graph that must be among the outputs.

    Raises:
        EdgeIRError: unknown loss.
    """

    def __init__(self, loss: str | Loss, module: torch.nn.Module, output: str | None = None) -> None:
        self._loss = find_loss(loss)
        self._name = output
        graph = graph_of(module)
        if graph is not None and output is None and len(graph.outputs) == 1:
            self._name = graph.output_names[0]
        captured = logits_name(graph, self._name) if graph is not None and loss in LOGIT_LOSSES else None
        self._value = captured if captured is not None else self._name
        self.capture: tuple[str, ...] = () if captured is None else (captured,)

    def of(self, outputs: Mapping[str, torch.Tensor]) -> Any:
        """What the loss is about: one tensor, or all outputs by name.

        Raises:
            EdgeIRError: no such output.
        """
        if self._value is None:
            return next(iter(outputs.values())) if len(outputs) == 1 else outputs
        if self._value not in outputs:
            raise EdgeIRError("the model has no such output", expected=", ".join(outputs), got=self._value)
        return outputs[self._value]

    def __call__(self, outputs: Mapping[str, torch.Tensor], targets: Any) -> torch.Tensor:
        """The loss, a scalar."""
        return self._loss(self.of(outputs), targets)


class Objective(torch.nn.Module):
    """The scalar that a training step minimises. Its parameters, if it has any, are trained with the model's.

    Args:
        loss: as for `OutputLoss`.
        module: the model.
        output: name of the output, where there are several.
    """

    def __init__(self, loss: str | Loss, module: torch.nn.Module, output: str | None = None) -> None:
        super().__init__()
        self.hard = OutputLoss(loss, module, output)
        self.output = output

    def forward(
        self, module: torch.nn.Module, inputs: Inputs, targets: Any
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """The objective on one batch, and its parts by name."""
        return self.hard(run_model(module, inputs, self.hard.capture), targets), {}

    def evaluate(
        self, module: torch.nn.Module, data: Any, metrics: Sequence[str], batch_size: int, channels_last: bool
    ) -> dict[str, float]:
        """The hard loss and the metrics over a data set."""
        from edgeir.training.metrics import evaluate_module

        return evaluate_module(
            module,
            data,
            metrics,
            loss=self.hard,
            output=self.output,
            batch_size=batch_size,
            channels_last=channels_last,
        )
