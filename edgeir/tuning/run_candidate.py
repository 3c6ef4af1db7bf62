"""In a worker: checks a built candidate against the reference evaluator and times it beside the default."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from edgeir.ir.graph import Graph, Value
from edgeir.lowering.layouts import to_logical, to_physical
from edgeir.lowering.task import Lowering, lower_node
from edgeir.tuning.build_candidate import LIBRARY
from edgeir.tuning.devices import Device, DeviceError, open_device
from edgeir.tuning.loaded import Loaded, load
from edgeir.tuning.problem import KERNEL, Problem, disagreement, reference

SHORTEST_REPEAT = 4e-4
"""Seconds of one repeat: a hundred times what it costs to read the clock and call the kernel."""

FEWEST_REPEATS, MOST_REPEATS = 5, 40
LONGEST_TIMING = 0.03
"""Seconds after which no further repeat is made, once there are enough."""

STABLE = 1.01
"""Timing ends when the three fastest repeats lie within this factor."""

HOPELESS = 4.0
"""A candidate that takes this many times the default's time is timed by one run only."""


@dataclass
class Prepared:
    """A problem, ready for candidates: reference results, arguments in physical form, and which are constants."""

    graph: Graph
    lowering: Lowering
    arguments: list[np.ndarray]
    constants: list[int]
    expected: dict[str, np.ndarray]


class Runner:
    """Times candidates; remembers the last few problems and defaults."""

    def __init__(self) -> None:
        self._problems: OrderedDict[str, Prepared] = OrderedDict()
        self._yardstick: tuple[str, Loaded] | None = None
        self._device: Device | None = None

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """Checks and times one candidate, or says why not.

        Args:
            message: `problem`, `folder`, `yardstick` (folder or None), `others` (bytes, as for `load`), `device`,
                `threads`, `seconds` (limit).

        Returns:
            `error` ("" if all went well), `detail`, and the times.
        """
        try:
            return self.measure(message)
        except DeviceError as error:
            self._drop_device()
            return {"error": "device", "detail": str(error)[:400]}
        except Exception as error:  # The kernel checks its arguments and may raise anything.
            remote = self._device is not None and self._device.is_remote
            self._drop_device()
            return {"error": "device" if remote else "run", "detail": f"{type(error).__name__}: {error}"[:400]}

    def _drop_device(self) -> None:
        if self._device is not None and self._device.is_remote:
            self._device, self._yardstick = None, None

    def measure(self, message: dict[str, Any]) -> dict[str, Any]:
        """Checks and times one candidate."""
        prepared = self._prepare(message["problem"])
        if self._device is None:
            self._device = open_device(message["device"], message["threads"], message["seconds"])
        candidate = self._load(prepared, message["folder"], message["others"])
        candidate.run()
        pairs = zip(prepared.graph.outputs, candidate.results, strict=True)
        results = {value: result.numpy() for value, result in pairs}
        names = prepared.graph.output_names
        logical = {
            name: to_logical(array, value.type) for name, (value, array) in zip(names, results.items(), strict=True)
        }
        if wrong := disagreement(logical, prepared.expected):
            return {"error": "wrong", "detail": wrong}
        yardstick = self._default(prepared, message["yardstick"], message["others"])
        return self._time(candidate, yardstick)

    def _time(self, candidate: Loaded, yardstick: Loaded | None) -> dict[str, Any]:
        first = candidate.seconds(1, 1)
        if yardstick is None:
            (times,), before = timed([candidate]), []
        elif first[0] > HOPELESS * min(before := yardstick.seconds(1, FEWEST_REPEATS)):
            times = first
        else:
            times, before = timed([candidate, yardstick])
        return {
            "error": "",
            "detail": "",
            "median": median(times),
            "minimum": min(times),
            "yardstick": min(before) if before else None,
        }

    def _prepare(self, text: str) -> Prepared:
        if text not in self._problems:
            graph = Problem.from_text(text).graph()
            inputs, expected = reference(graph)
            lowering = lower_node(next(iter(graph.nodes)), KERNEL)
            arguments = [self._argument(source, inputs) for source in lowering.sources]
            constants = [i for i, s in enumerate(lowering.sources) if isinstance(s, np.ndarray) or s.is_constant]
            self._problems[text] = Prepared(graph, lowering, arguments, constants, expected)
            while len(self._problems) > 4:
                self._problems.popitem(last=False)
        return self._problems[text]

    def _argument(self, source: Value | np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
        if isinstance(source, np.ndarray):
            return source
        return to_physical(source.data if source.is_constant else inputs[source.name], source.type)

    def _default(self, prepared: Prepared, folder: str | None, others: int) -> Loaded | None:
        if folder is None:
            return None
        if self._yardstick is None or self._yardstick[0] != folder:
            self._yardstick = (folder, self._load(prepared, folder, others))
        return self._yardstick[1]

    def _load(self, prepared: Prepared, folder: str, others: int) -> Loaded:
        assert self._device is not None
        arrays = list(prepared.arguments)
        for index in range(len(arrays)):
            packed = os.path.join(folder, f"{index}.npy")
            if os.path.exists(packed):
                arrays[index] = np.load(packed, allow_pickle=False)
        outputs = [_unwritten(spec.shape, spec.dtype) for spec in prepared.lowering.task.outputs]
        library = os.path.join(folder, LIBRARY)
        return load(library, self._device, [*arrays, *outputs], len(outputs), prepared.constants, others)


def _unwritten(shape: Sequence[int], dtype: str) -> np.ndarray:
    """An output before the kernel ran: bytes that no kernel computes everywhere, so that unwritten parts show."""
    empty = np.empty(shape, dtype)
    empty.view(np.uint8).fill(1 if dtype == "bool" else 0xAB) if empty.ndim else empty.fill(1)
    return empty


def timed(kernels: Sequence[Loaded]) -> list[list[float]]:
    """Seconds of one run of each kernel, over repeats that go on until the fastest ones of each agree.

    The kernels take turns and get equally many repeats, so that a change of the machine's speed meets all of them, and
    none gains by a longer wait for a lucky moment.
    """
    numbers = []
    for kernel in kernels:
        kernel.run()
        numbers.append(max(1, int(SHORTEST_REPEAT / max(kernel.seconds(1, 1)[0], 1e-9))))
    times: list[list[float]] = [[] for _ in kernels]
    while len(times[0]) < MOST_REPEATS:
        for kernel, number, found in zip(kernels, numbers, times, strict=True):
            found += kernel.seconds(number, FEWEST_REPEATS)
        fastest = [sorted(found)[:3] for found in times]
        spent = max(number * sum(found) for number, found in zip(numbers, times, strict=True))
        if all(three[-1] <= STABLE * three[0] for three in fastest) or spent > LONGEST_TIMING:
            break
    return times
