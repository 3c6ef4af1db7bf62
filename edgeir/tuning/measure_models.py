"""Whole models, measured side by side in a process of their own."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph
from edgeir.lowering.build import Lowered, export
from edgeir.lowering.compute.registry import physical
from edgeir.lowering.compute.storage import carrier
from edgeir.tuning.worker_process import WorkerProcess


def model_seconds(graph: Graph, models: Sequence[Lowered], threads: int, seconds: float = 4.0) -> list[float]:
    """The least seconds of one run of each of some ways to compile a graph, run in turn.

    Args:
        graph: the graph that all of them compute.
        models: for this machine.
        threads: that they use.
        seconds: to measure for, in all.

    Raises:
        EdgeIRError: a model cannot be linked, fails, or does not finish.
    """
    cores = sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else []
    worker = WorkerProcess("model", {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}, cores)
    try:
        with tempfile.TemporaryDirectory(prefix="edgeir-models-") as folder:
            paths = [os.path.join(folder, f"{index}.so") for index in range(len(models))]
            for lowered, path in zip(models, paths, strict=True):
                export(lowered, path)
            inputs = [(carrier(value.type.dtype), list(physical(value.type))) for value in graph.inputs]
            worker.send({"libraries": paths, "inputs": inputs, "seconds": seconds}, seconds + 60)
            ready = worker.connection.poll(max(0.0, worker.deadline - time.monotonic()))
            answer = worker.receive() if ready else {"error": "timeout"}
    finally:
        worker.stop()
    if answer is None or answer["error"]:
        detail = "the process died" if answer is None else answer.get("detail", answer["error"])
        raise EdgeIRError("the whole model could not be measured", where=graph.name, got=detail)
    return list(map(float, answer["seconds"]))
