"""What passes are handed from here: graphs run in torch, and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.ir.dtype import numpy_dtype
from edgeir.training.module import GraphModule
from edgeir.training.objective import OutputLoss

Sample = Mapping[str, np.ndarray]


def execute(graph: Graph) -> Callable[[Sample], dict[str, np.ndarray]]:
    """The service `execute`: a graph as a function from inputs to outputs, both arrays by name."""
    module = GraphModule(graph, trainable=lambda value: False).eval()
    dtypes = dict(zip(graph.output_names, (numpy_dtype(v.type.dtype) for v in graph.outputs), strict=True))

    def run(inputs: Sample) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = module(_tensors(inputs))
        return {name: outputs[name].numpy().astype(dtype, copy=False) for name, dtype in dtypes.items()}

    return run


def gradients(
    samples: Sequence[Sample], targets: Sequence[Any], loss: str, output: str | None = None
) -> Callable[[Graph, Sequence[str], Iterable[Sample]], Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]]:
    """The service `gradients`: (graph, names of values, samples) → per sample, name → (y, ∂L/∂y).

    Args:
        samples: those that the targets belong to; passes hand some of them back.
        targets: of each sample.
        loss: name of the loss L.
        output: name of the output that it is about, where there are several.
    """
    labels = {id(sample): target for sample, target in zip(samples, targets, strict=True)}

    def run(
        graph: Graph, names: Sequence[str], asked: Iterable[Sample]
    ) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        module = GraphModule(graph).eval()
        goal = OutputLoss(loss, module, output)
        for sample in asked:
            if id(sample) not in labels:
                raise EdgeIRError("gradients are known for the calibration samples only")
            outputs = module(_tensors(sample), capture=(*names, *goal.capture))
            value = goal(outputs, labels[id(sample)])
            found = torch.autograd.grad(value, [outputs[name] for name in names], allow_unused=True)
            yield {
                name: (
                    outputs[name].detach().numpy(),
                    torch.zeros_like(outputs[name]).numpy() if gradient is None else gradient.numpy(),
                )
                for name, gradient in zip(names, found, strict=True)
            }

    return run


def calibration_samples(
    graph: Graph, data: Any, count: int, seed: int
) -> tuple[list[dict[str, np.ndarray]], list[torch.Tensor]]:
    """Samples of training arrays as inputs of a graph, and their targets.

    Args:
        graph: its inputs tell the names; a fixed batch is filled.
        data: arrays (inputs, targets); other data gives no samples.
        count: how many samples.
        seed: of the choice.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        return [], []
    inputs, targets = data
    arrays = inputs if isinstance(inputs, Mapping) else {graph.inputs[0].name: inputs}
    total = len(targets)
    first = graph.inputs[0].type.shape[:1]
    size = first[0] if first and isinstance(first[0], int) else 1
    chosen = np.random.default_rng(seed).permutation(total)[: max(size, min(count, total) // size * size)]
    groups = [chosen[start : start + size] for start in range(0, len(chosen) - size + 1, size)]
    samples = [{name: np.asarray(array)[group] for name, array in arrays.items()} for group in groups]
    return samples, [torch.as_tensor(np.asarray(targets)[group]) for group in groups]


def _tensors(inputs: Sample) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in inputs.items()}
