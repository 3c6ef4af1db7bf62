"""A graph run kernel by kernel on the emulated GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeir.ir import Graph, Value
from edgeir.lowering.layouts import to_logical, to_physical
from edgeir.lowering.module import plan
from edgeir.schedules.select import schedule
from edgeir.schedules.task import Task
from edgeir.targets import Target
from tests.gpu.emulator import EmulatedGpu


def run_emulated(graph: Graph, inputs: Mapping[str, np.ndarray], target: Target, folder: Path) -> dict[str, np.ndarray]:
    """The graph's outputs, from its kernels as they are scheduled for a CUDA target."""
    steps = plan(graph)
    tasks: dict[str, Task] = {}
    for step in steps:
        if step.lowering is not None:
            tasks.setdefault(step.key, step.lowering.task)
    kernels = {task.name: schedule(task, target) for task in tasks.values()}
    gpu = EmulatedGpu({name: kernel.func for name, kernel in kernels.items()}, target, folder)
    values: dict[Value, np.ndarray] = {}

    def array(source: Value | np.ndarray) -> np.ndarray:
        if isinstance(source, np.ndarray):
            return source
        if source not in values:
            values[source] = to_physical(source.data if source.is_constant else inputs[source.name], source.type)
        return values[source]

    for step in steps:
        if step.lowering is None:
            values[step.node.output] = array(step.node.input(0)).reshape(step.node.output.type.static_shape)
            continue
        task = tasks[step.key]
        pack, arguments = kernels[task.name].pack, []
        for index, source in enumerate(step.lowering.sources):
            argument = pack[index](array(source)) if index in pack else array(source)
            arguments.append(np.ascontiguousarray(argument).reshape(argument.shape))
        results = [np.frombuffer(b"\xa5" * max(1, _bytes(o.shape, o.dtype)), np.uint8).copy() for o in task.outputs]
        gpu(task.name, *arguments, *results)
        for value, spec, raw in zip(step.node.outputs, task.outputs, results, strict=True):
            size = _bytes(spec.shape, spec.dtype)
            values[value] = raw[:size].view(np.dtype(spec.dtype)).reshape(spec.shape)
    return {
        name: to_logical(array(value), value.type)
        for name, value in zip(graph.output_names, graph.outputs, strict=True)
    }


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
