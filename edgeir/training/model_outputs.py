"""Calling a model that is trained: a graph's module, or any torch module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Value
from edgeir.training.data import Inputs


def graph_of(module: torch.nn.Module) -> Graph | None:
    """The graph that a module runs, if it is a graph's module."""
    graph = getattr(module, "graph", None)
    return graph if isinstance(graph, Graph) else None


def run_model(module: torch.nn.Module, inputs: Inputs, capture: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """A model's outputs by name, and the captured values.

    Args:
        module: a graph's module, or one that returns a tensor (called `output` then) or name → tensor.
        inputs: a batch.
        capture: names of values of the graph.

    Raises:
        EdgeIRError: the batch does not fit, a value cannot be captured, or the module returns something else.
    """
    graph = graph_of(module)
    if graph is not None:
        check_shapes(graph, inputs)
        return module(inputs, capture=tuple(capture)) if capture else module(inputs)
    if capture:
        raise EdgeIRError("only values of a graph can be captured", got=", ".join(capture))
    result = module(**inputs) if isinstance(inputs, Mapping) else module(inputs)
    if isinstance(result, torch.Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        return dict(result)
    raise EdgeIRError("a model must return a tensor or name → tensor", got=type(result).__name__)


def check_shapes(graph: Graph, inputs: Inputs) -> None:
    """Checks a batch against a graph's inputs.

    Raises:
        EdgeIRError: the number, a name, a rank or a fixed dimension differs.
    """
    values = graph.inputs
    if isinstance(inputs, Mapping):
        missing = [value.name for value in values if value.name not in inputs]
        if missing or len(inputs) != len(values):
            raise EdgeIRError(
                "a batch does not have the model's inputs",
                expected=", ".join(value.name for value in values),
                got=", ".join(inputs),
            )
        tensors = [inputs[value.name] for value in values]
    else:
        tensors = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
    if len(tensors) != len(values):
        raise EdgeIRError("a batch does not have the model's inputs", expected=len(values), got=len(tensors))
    for value, tensor in zip(values, tensors, strict=True):
        _check_shape(value, tensor)


def choose_output(outputs: Mapping[str, torch.Tensor], name: str | None = None) -> torch.Tensor:
    """The output that a loss or a metric is about.

    Args:
        outputs: by name.
        name: the output; None where there is only one.

    Raises:
        EdgeIRError: no such output, or several without a name.
    """
    if name is None:
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        raise EdgeIRError("the model has several outputs", got=", ".join(outputs), hint="name one with output=…")
    if name not in outputs:
        raise EdgeIRError("the model has no such output", expected=", ".join(outputs), got=name)
    return outputs[name]


def logits_name(graph: Graph, output: str | None = None) -> str | None:
    """The value that holds a classifier's logits: the operand of a final softmax, else the output itself.

    Args:
        graph: the classifier.
        output: name of the output; None where there is only one.

    Returns:
        The name of the value to capture; None if the output itself holds the logits.
    """
    pairs = dict(zip(graph.output_names, graph.outputs, strict=True))
    if output is None and len(pairs) != 1:
        return None
    value = next(iter(pairs.values())) if output is None else pairs.get(output)
    producer = None if value is None else value.producer
    if producer is not None and producer.op == "softmax" and producer.attributes["axis"] == 1:
        return producer.input(0).name
    return None


def _check_shape(value: Value, tensor: Any) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise EdgeIRError("a batch holds something else than tensors", expected=repr(value), got=type(tensor).__name__)
    shape = value.type.shape
    fits = tensor.ndim == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        got = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
        fixed = bool(shape) and isinstance(shape[0], int) and tensor.shape[1:] == shape[1:]
        hint = "edgeir.training.open_batch.open_batch makes a graph that takes any batch" if fixed else None
        raise EdgeIRError("a batch has the wrong shape", expected=repr(value), got=got, hint=hint)
