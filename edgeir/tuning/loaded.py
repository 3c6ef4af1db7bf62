"""A built kernel with its arguments on a device, and its time as a network meets it.

A kernel that is repeated on the same arguments finds its weights in the nearest cache that holds them. In a network the
weights of all other kernels came by since its last run, and its results go where other kernels' were. So a kernel on
this machine gets several copies of its constants and results, as many as take the place of the other kernels' weights,
and its runs take them in turn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm

from edgeir.tuning.devices import Device
from edgeir.tuning.problem import KERNEL

LEAST_BYTES = 4096
"""Constants and results that are smaller stay where they are: their place costs less than a clock tells."""


@dataclass
class Loaded:
    """A kernel, ready to run.

    Attributes:
        module: its library.
        device: where it runs.
        sets: arguments, results last; those after the first are copies.
        outputs: number of results.
    """

    module: Any
    device: Device
    sets: list[list[Any]]
    outputs: int
    _next: int = field(default=0)

    @property
    def results(self) -> list[Any]:
        """The results of the last `run`."""
        return self.sets[0][-self.outputs :]

    def run(self) -> None:
        """Runs the kernel once, on its first arguments."""
        self.module[KERNEL](*self.sets[0])

    def seconds(self, number: int, repeat: int) -> list[float]:
        """Seconds of one run, for each repeat of `number` runs; by the clock of the machine that runs it."""
        if len(self.sets) == 1:
            timer = self.module.time_evaluator(KERNEL, self.device.handle, number=number, repeat=repeat)
            return list(timer(*self.sets[0]).results)
        kernel, found = self.module[KERNEL], []
        for _ in range(repeat):
            turn = [self.sets[(self._next + index) % len(self.sets)] for index in range(number)]
            self._next += number
            start = time.perf_counter()
            for arguments in turn:
                kernel(*arguments)
            found.append((time.perf_counter() - start) / number)
        return found


def load(
    path: str, device: Device, arrays: Sequence[np.ndarray], outputs: int, moving: Sequence[int], others: int
) -> Loaded:
    """Loads a library and sends its arguments.

    Args:
        path: the library.
        device: where to.
        arrays: the arguments, results last.
        outputs: number of results.
        moving: places of the constants among the arguments.
        others: bytes of the other kernels' constants in the network; 0 repeats a kernel on the same arguments.
    """
    places = {*moving, *range(len(arrays) - outputs, len(arrays))}
    size = sum(arrays[place].nbytes for place in places)
    copies = -(-others // size) if not device.is_remote and size >= LEAST_BYTES else 0
    sets = [[tvm.runtime.tensor(array, device.handle) for array in arrays]]
    for _ in range(copies):
        copied = {place: tvm.runtime.tensor(arrays[place], device.handle) for place in places}
        sets.append([copied.get(place, tensor) for place, tensor in enumerate(sets[0])])
    return Loaded(device.load(path), device, sets, outputs)
