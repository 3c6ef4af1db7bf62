"""Runs a compiled graph in this process, on logical numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm
from tvm import relax

from edgeir.ir.evaluate import check_inputs
from edgeir.ir.graph import Graph
from edgeir.lowering.build import Lowered
from edgeir.lowering.layouts import to_logical, to_physical


def virtual_machine(executable: Any) -> Any:
    """TVM's Relax virtual machine on the CPU.

    Args:
        executable: what `build` made, or a loaded `tvm.runtime.Module`.
    """
    device: Any = tvm.cpu()
    return relax.VirtualMachine(executable, device)


class Runner:
    """A compiled graph, loaded.

    Args:
        graph: the graph that was compiled: names and types of inputs and outputs.
        lowered: what `build` returned.
    """

    def __init__(self, graph: Graph, lowered: Lowered) -> None:
        self.graph = graph
        self._machine = virtual_machine(lowered.executable)
        self._main = self._machine["main"]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Input name → array, of logical shape; returns output name → array.

        Raises:
            EdgeIRError: an input is missing, unknown, or of the wrong type.
        """
        check_inputs(self.graph, inputs)
        arguments = [
            tvm.runtime.tensor(to_physical(np.asarray(inputs[value.name]), value.type)) for value in self.graph.inputs
        ]
        results = self._main(*arguments)
        return {
            name: to_logical(result.numpy(), value.type)
            for name, value, result in zip(self.graph.output_names, self.graph.outputs, results, strict=True)
        }
