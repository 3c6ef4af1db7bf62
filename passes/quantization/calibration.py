"""What intermediate values look like on samples, one sample in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Value
from edgeir.ir.evaluate import evaluate
from edgeir.passes.quantization.observers import Observer
from edgeir.passmanager import PassContext

Arrays = Mapping[str, np.ndarray]
Execute = Callable[[Graph], Callable[[Arrays], Arrays]]
"""Makes a graph ready to run: graph → (inputs → outputs)."""

EXECUTE = "execute"
"""Name of the service that runs graphs fast; without it the reference evaluator does."""


def interpret(graph: Graph) -> Callable[[Arrays], Arrays]:
    """Runs a graph by the reference evaluator."""
    return lambda inputs: evaluate(graph, inputs)


def executor(context: PassContext) -> Execute:
    """The context's service, or the reference evaluator."""
    return context.services.get(EXECUTE, interpret)


def probe(graph: Graph, values: Sequence[Value]) -> tuple[Graph, dict[Value, str]]:
    """A copy whose outputs are `values`, and the name of each there; inputs that are not needed stay.

    Args:
        graph: the graph; it is not edited.
        values: computed values and inputs of it, each once.
    """
    copy = graph.copy()
    names = {value: f"probe_{index}" for index, value in enumerate(values)}
    copy.set_outputs({name: copy.value(value.name) for value, name in names.items()})
    for node in copy.reversed_nodes:
        if not any(value.is_used for value in node.outputs):
            copy.erase(node)
    copy.remove_unused_constants()
    return copy, names


def check_samples(graph: Graph, samples: Sequence[Arrays]) -> None:
    """Checks that samples hold finite numbers for every input.

    Raises:
        EdgeIRError: an input is missing or empty, or holds infinities or NaN; the sample and the input are named.
    """
    for number, sample in enumerate(samples):
        for value in graph.inputs:
            where = f"sample {number}, input {value.name!r}"
            if value.name not in sample:
                raise EdgeIRError("an input is missing", where=where, expected=repr(value), got=", ".join(sample))
            array = np.asarray(sample[value.name])
            if not array.size:
                raise EdgeIRError("an input is empty", where=where, expected=repr(value), got=list(array.shape))
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = array.size - int(np.isfinite(array).sum())
                raise EdgeIRError("an input is infinite or NaN", where=where, got=f"{bad} of {array.size} elements")


def observe(
    graph: Graph,
    observers: Mapping[Value, Observer],
    context: PassContext,
    pass_name: str,
    limits: Mapping[Value, tuple[float, float]] | None = None,
) -> None:
    """Shows each value's elements on all calibration samples to its observer.

    Args:
        graph: the graph.
        observers: value → observer; several values may share one.
        context: has the samples, and perhaps the service `execute`.
        pass_name: who asks, for messages.
        limits: value → range that its elements are clipped to before.

    Raises:
        EdgeIRError: there are no samples, one does not fit, or a value is infinite, NaN or empty on one.
    """
    samples = context.require_calibration(pass_name)
    check_samples(graph, samples)
    limits = limits or {}

    def show(value: Value, array: np.ndarray) -> None:
        low, high = limits.get(value, (-np.inf, np.inf))
        # Only finite numbers are clipped, so that infinities are still found.
        if np.isfinite(array).all() and (np.isfinite(low) or np.isfinite(high)):
            array = np.clip(array, low, high)
        observers[value].update(array)

    for value in observers:
        if value.is_input:
            for sample in samples:
                show(value, np.asarray(sample[value.name]))
    computed = [value for value in observers if not value.is_input]
    if not computed:
        return
    copy, names = probe(graph, computed)
    run = executor(context)(copy)
    for number, sample in enumerate(samples):
        outputs = run(sample)
        for value in computed:
            try:
                show(value, np.asarray(outputs[names[value]]))
            except EdgeIRError as error:
                where = f"sample {number}, value %{value.name} of {value.producer}"
                raise EdgeIRError(error.what, where=where, expected=error.expected, got=error.got) from None
