"""In a worker: times whole models in turn, so that a change of the machine's speed meets all of them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine

from edgeir.tuning.devices import DeviceError, open_device

REPEATS = 3
"""Timed runs of a model in its turn; a first one, which finds the others' data in the caches, is not timed."""


class ModelRunner:
    """Times exported libraries, here or on a device."""

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """Times some models, or says why not.

        Args:
            message: `libraries`, `inputs` (dtype and physical shape of each), `device`, `threads`, `seconds`, `limit`.

        Returns:
            `error` ("" if all went well), `detail`, and the least `seconds` of each.
        """
        try:
            return {"error": "", "seconds": self.measure(message)}
        except DeviceError as error:
            return {"error": "device", "detail": str(error)[:400]}
        except Exception as error:  # Loading and running raise types of TVM's own.
            return {"error": "run", "detail": f"{type(error).__name__}: {error}"[:400]}

    def measure(self, message: dict[str, Any]) -> list[float]:
        """The least seconds of one run of each library, taken by the clock of the machine that runs them."""
        device = open_device(message["device"], message["threads"], message["limit"])
        generator = np.random.default_rng(0)
        arrays = [(generator.standard_normal(shape) > 0).astype(dtype) for dtype, shape in message["inputs"]]
        arguments = [tvm.runtime.tensor(array, device.handle) for array in arrays]
        timers = []
        for path in message["libraries"]:
            machine = VirtualMachine(device.load(path), device.handle)
            # A tuple of results cannot cross to here, so they stay in the machine.
            machine.set_input("main", *arguments)
            timers.append(machine.time_evaluator("invoke_stateful", device.handle, number=1, repeat=REPEATS))
        best = [float("inf")] * len(timers)
        end = time.perf_counter() + message["seconds"]
        while time.perf_counter() < end:
            for index, timer in enumerate(timers):
                best[index] = min(best[index], *timer("main").results)
        return best
