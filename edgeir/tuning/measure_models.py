"""Whole models, measured side by side in a process of their own, or on a device."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph
from edgeir.lowering.build import Lowered, export
from edgeir.lowering.compute.registry import physical
from edgeir.lowering.compute.storage import carrier
from edgeir.tuning.devices import LOCAL, parse_device
from edgeir.tuning.measure import DEVICE_ATTEMPTS
from edgeir.tuning.scratch import ScratchFolder
from edgeir.tuning.worker_process import WorkerProcess

LOCAL_LIMIT, REMOTE_LIMIT = 60.0, 600.0
"""Seconds beside those of the measurement that loading the models, and their first runs, may take."""


def model_seconds(
    graph: Graph, models: Sequence[Lowered], threads: int, seconds: float = 4.0, device: str = LOCAL
) -> list[float]:
    """The least seconds of one run of each of some ways to compile a graph, run in turn.

    Args:
        graph: the graph that all of them compute.
        models: for the machine that runs them.
        threads: that they use.
        seconds: to measure for, in all.
        device: where they run, as `parse_device` reads it; libraries are sent there, and its clock counts.

    Raises:
        EdgeIRError: a model cannot be linked, fails, or does not finish; nobody answers at the device's address.
    """
    address = parse_device(device)
    cores = sorted(os.sched_getaffinity(0))[-threads:] if address is None and hasattr(os, "sched_getaffinity") else []
    limit = seconds + (LOCAL_LIMIT if address is None else REMOTE_LIMIT)
    with ScratchFolder() as folder:
        paths = [os.path.join(folder.name, f"{index}.so") for index in range(len(models))]
        for lowered, path in zip(models, paths, strict=True):
            export(lowered, path)
        inputs = [(carrier(value.type.dtype), list(physical(value.type))) for value in graph.inputs]
        message = {"libraries": paths, "inputs": inputs, "device": device, "threads": threads}
        message |= {"seconds": seconds, "limit": limit}
        worker = WorkerProcess("model", {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}, cores)
        try:
            answer = _answer(worker, message, limit)
            # A tracker hands out another device where one is gone.
            for _ in range(DEVICE_ATTEMPTS - 1 if address is not None and address.is_tracker else 0):
                if answer["error"] == "device":
                    answer = _answer(worker, message, limit)
        finally:
            worker.stop()
    if answer["error"]:
        where = graph.name if address is None else f"{graph.name} on {device}"
        raise EdgeIRError("the whole model could not be measured", where=where, got=answer["detail"])
    return list(map(float, answer["seconds"]))


def _answer(worker: WorkerProcess, message: dict[str, Any], limit: float) -> dict[str, Any]:
    worker.send(message, limit)
    if not worker.connection.poll(max(0.0, worker.deadline - time.monotonic())):
        return {"error": "timeout", "detail": f"no answer in {limit:g} s"}
    return worker.receive() or {"error": "crash", "detail": "the process died"}
