"""Time of each kernel of a compiled network beside the machine's measured limits.

Two times are taken. *In the network*: the virtual machine's instrument reads the clock before and after each kernel
while the network runs, so that caches are as they are in use; the instrument's own cost, the least time that a
built-in of the virtual machine seems to take, is subtracted. *Alone*: the same machine code repeated on the same
arguments, whose weights are then in the nearest cache that holds them. Both are minima over repeats.

Multiply-accumulates are those of the direct algorithm, and bytes count every argument once and whole: Winograd can go
beyond the peak, and a gather, which reads a part of its table, beyond the roofline.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from benchmarks.machine import Peak, measure
from benchmarks.networks import Network, random_inputs
from edgeir.frontend import load
from edgeir.ir import graph_statistics
from edgeir.lowering.build import build, export
from edgeir.lowering.module import Scheduled
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.runtime.threads import use_threads
from edgeir.targets import lookup

Row = dict[str, Any]


def profile(item: Network, target_name: str, threads: int, repeats: int = 20) -> dict[str, Any]:
    """Compiles a network and times its kernels.

    Args:
        item: the network.
        target_name: what to compile for; this machine must run it.
        threads: number of threads.
        repeats: runs of the network.

    Returns:
        `peak`, `kernels` (in graph order, one row per call), and `network_us` (the fastest run, instrument included).
    """
    use_threads(threads)
    target = lookup(target_name).with_cores(threads)
    peak = measure(target, threads)
    graph = load(item.path, item.shapes)
    default_pipeline(target).run(graph, PassContext(target=target))
    costs = {id(row.node): row.macs for row in graph_statistics(graph).per_node}
    lowered = build(graph, target)
    inputs = random_inputs(item)
    arguments = [tvm.runtime.tensor(inputs[value.name]) for value in graph.inputs]
    with tempfile.TemporaryDirectory() as folder:
        export(lowered, Path(folder) / "model.so")
        executable: Any = tvm.runtime.load_module(str(Path(folder) / "model.so"))
    kernels = {scheduled.task.name: scheduled for scheduled in lowered.kernels}
    trace = _Trace(kernels, executable.imports[0])
    device: Any = tvm.cpu()
    machine = relax.VirtualMachine(executable, device)
    main = machine["main"]
    main(*arguments)
    # TVM takes any callable; its annotation says less.
    machine.set_instrument(trace)  # pyright: ignore[reportArgumentType]
    for _ in range(repeats):
        trace.start()
        main(*arguments)
        trace.finish()
    rows = trace.rows()
    # By name: TVM gives kernels that came out equal one function, and turns a kernel that only reshapes into a view.
    macs = {name: costs[id(step.node)] for name, step in zip(lowered.calls, lowered.plan.calls, strict=True)}
    for row in rows:
        _rate(row, macs.get(row["kernel"], 0), peak)
    return {"peak": peak.to_dict(), "kernels": rows, "network_us": trace.fastest * 1e6}


def _rate(row: Row, macs: int, peak: Peak) -> None:
    """Adds the rates to a row."""
    seconds = row["us"] * 1e-6
    row["macs"] = macs
    row["gflops"] = 2 * macs / seconds / 1e9
    row["peak_share"] = row["gflops"] / peak.gflops
    row["gbs"] = row["bytes"] / seconds / 1e9
    row["bandwidth_share"] = row["gbs"] / peak.bandwidth(row["bytes"])
    row["roofline_share"] = peak.least_seconds(macs, row["bytes"]) / seconds


class _Trace:
    """The virtual machine's instrument: called before and after every function that `main` calls."""

    def __init__(self, kernels: Mapping[str, Scheduled], library: Any) -> None:
        self.kernels = kernels
        self.library = library
        self.times: dict[int, float] = {}
        self.info: dict[int, Row] = {}
        self.overhead = self.fastest = math.inf
        self.index, self.began, self.run_began = 0, 0.0, 0.0
        self.warm = False

    def start(self) -> None:
        self.index = 0
        self.run_began = time.perf_counter()

    def finish(self) -> None:
        # The first run also times the kernels alone.
        if self.warm:
            self.fastest = min(self.fastest, time.perf_counter() - self.run_began)
        self.warm = True

    def __call__(self, _: Any, name: str, before: bool, __: Any, *arguments: Any) -> None:
        now = time.perf_counter()
        if before:
            if not self.warm and not name.startswith("vm."):
                self._describe(name, arguments)
            self.began = time.perf_counter()
            return
        elapsed = now - self.began
        if name.startswith("vm."):
            self.overhead = min(self.overhead, elapsed)
            return
        if self.warm:
            self.times[self.index] = min(self.times.get(self.index, math.inf), elapsed)
        self.index += 1

    def _describe(self, name: str, arguments: tuple[Any, ...]) -> None:
        scheduled = self.kernels.get(name)
        shapes = [tuple(int(size) for size in tensor.shape) for tensor in arguments]
        outputs = 1 if scheduled is None else len(scheduled.task.outputs)
        sizes = [math.prod(s) * np.dtype(str(t.dtype)).itemsize for s, t in zip(shapes, arguments, strict=True)]
        if scheduled is not None and shapes[-outputs:] != [spec.shape for spec in scheduled.task.outputs]:
            raise RuntimeError(f"{name} does not write what its task says")
        # Inputs are still whole here, and a kernel reads nothing that it writes: running it again changes nothing.
        timer = self.library.time_evaluator(name, tvm.cpu(), number=1, repeat=20, min_repeat_ms=1)
        self.info[self.index] = {
            "kernel": name,
            "template": "copy" if scheduled is None else scheduled.template,
            "config": {} if scheduled is None else dict(scheduled.config),
            "anchor": "copy" if scheduled is None else scheduled.task.anchor,
            "attributes": {} if scheduled is None else _attributes(scheduled),
            "inputs": [list(shape) for shape in shapes[:-outputs]],
            "outputs": [list(shape) for shape in shapes[-outputs:]],
            "bytes": sum(sizes),
            "alone_us": min(timer(*arguments).results) * 1e6,
        }

    def rows(self) -> list[Row]:
        overhead = 0.0 if math.isinf(self.overhead) else self.overhead
        return [
            {**self.info[index], "us": max(1e-2, (self.times[index] - overhead) * 1e6)} for index in sorted(self.info)
        ]


def _attributes(scheduled: Scheduled) -> dict[str, Any]:
    plain = (int, str, bool, float, tuple)
    return {key: value for key, value in scheduled.task.attributes.items() if isinstance(value, plain)}


def by_template(rows: list[Row], peak: Peak) -> list[Row]:
    """Template → calls, time, and the time that the roofline would take."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["template"]].append(row)
    merged = []
    for name, group in groups.items():
        microseconds = sum(row["us"] for row in group)
        least = sum(peak.least_seconds(row["macs"], row["bytes"]) * 1e6 for row in group)
        operations = 2 * sum(row["macs"] for row in group)
        rates = {"gflops": operations / microseconds / 1e3, "roofline_share": least / microseconds}
        merged.append({"template": name, "calls": len(group), "us": microseconds, "least_us": least, **rates})
    return sorted(merged, key=lambda row: -row["us"])
