"""Runs graphs fast in this process, for passes and comparisons that need intermediate values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeir.errors import UnsupportedModelError
from edgeir.ir import Graph
from edgeir.ir.evaluate import check_inputs, evaluate
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import Target, lookup

Arrays = Mapping[str, np.ndarray]

# Weights become floats again: what is wanted are the values of the fake-quantized graph, not integer kernels.
_CLEAN = "canonicalize,fold-constants{dequantize=true,growth=16},common-subexpressions,dead-code"
_PIPELINE = f"{_CLEAN},unroll-recurrent,decompose-conv-transpose,{_CLEAN},assign-layouts,fuse-operators"


class CompiledGraph:
    """A graph that is compiled for this machine when it is called, once for each combination of input shapes.

    A graph with an operator that cannot be compiled is run by the reference evaluator.

    Args:
        graph: made of plain operators; float or fake-quantized. It is copied.
        target: this machine; detected if None.
    """

    def __init__(self, graph: Graph, target: Target | None = None) -> None:
        self._graph = graph.copy()
        self._target = target or lookup("host")
        self._runners: dict[tuple[tuple[int, ...], ...], Callable[[Arrays], dict[str, np.ndarray]]] = {}

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Input name → array; returns output name → array.

        Raises:
            EdgeIRError: an input is missing, unknown, or of the wrong type.
        """
        sizes = check_inputs(self._graph, inputs)
        key = tuple(np.shape(inputs[value.name]) for value in self._graph.inputs)
        if key not in self._runners:
            bound = self._graph.bind(sizes) if sizes else self._graph
            self._runners[key] = self._compile(bound)
        return self._runners[key](inputs)

    def _compile(self, graph: Graph) -> Callable[[Arrays], dict[str, np.ndarray]]:
        from edgeir.lowering.build import build
        from edgeir.lowering.run import Runner

        optimized = graph.copy()
        Pipeline(_PIPELINE).run(optimized, PassContext(target=self._target, verify=False, keep_reproducer=False))
        try:
            return Runner(optimized, build(optimized, self._target))
        except UnsupportedModelError:
            return lambda inputs: evaluate(graph, inputs)


def compiled_services() -> dict[str, Callable[..., Any]]:
    """The services for a `PassContext` whose passes run graphs."""
    return {"execute": CompiledGraph}
