"""In a worker: times whole models in turn, so that a change of the machine's speed meets all of them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tvm
from tvm import relax


class ModelRunner:
    """Times exported libraries."""

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """`libraries`, `inputs` (dtype and physical shape of each), `seconds` → `error`, least `seconds` of each."""
        try:
            return {"error": "", "seconds": self.measure(message)}
        except Exception as error:  # Loading and running raise types of TVM's own.
            return {"error": "run", "detail": f"{type(error).__name__}: {error}"[:400]}

    def measure(self, message: dict[str, Any]) -> list[float]:
        """The least seconds of one run of each library."""
        generator = np.random.default_rng(0)
        arrays = [(generator.standard_normal(shape) > 0).astype(dtype) for dtype, shape in message["inputs"]]
        arguments = [tvm.runtime.tensor(array) for array in arrays]
        device: Any = tvm.cpu()
        loaded: list[Any] = [tvm.runtime.load_module(path) for path in message["libraries"]]
        machines = [relax.VirtualMachine(library, device) for library in loaded]
        mains = [machine["main"] for machine in machines]
        best = [float("inf")] * len(mains)
        end = time.perf_counter() + message["seconds"]
        while time.perf_counter() < end:
            for index, main in enumerate(mains):
                main(*arguments)
                for _ in range(3):
                    start = time.perf_counter()
                    main(*arguments)
                    best[index] = min(best[index], time.perf_counter() - start)
        return best
