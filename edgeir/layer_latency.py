"""Measured time of layers at several numbers of channels: the service "measured-latency" of `prune-channels`.

The whole network is compiled and run as it is, and with a half and three quarters of all channels removed; the times of
its kernels, fusion and layouts included, belong to the layers at their heart. Between the measured points time is
interpolated by the layer's multiply-accumulates (or bytes, where it has none).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, TensorType
from edgeir.ir.shapes import require_static
from edgeir.lowering.build import build
from edgeir.lowering.run import virtual_machine
from edgeir.passes.pipelines import default_pipeline
from edgeir.passes.pruning.prune_channels import PruneChannels
from edgeir.passmanager import PassContext, example_inputs
from edgeir.runtime.threads import use_threads
from edgeir.targets import Target

REMOVED = (0.5, 0.75)
"""Shares of channels that the smaller networks lack."""

_REPEATS = 15


class LayerLatency:
    """A cost for `edgeir.passes.pruning`: (node, types of operands, types of results) → seconds.

    Args:
        graph: with fixed shapes; the graph to be pruned, or a copy with the same names.
        target: this machine, whose cores are the threads.

    Raises:
        EdgeIRError: a dimension is symbolic, or an operator cannot be compiled.
    """

    def __init__(self, graph: Graph, target: Target) -> None:
        require_static(graph)
        points: dict[str, dict[float, float]] = {}
        full = {node.outputs[0].name: _size(node, *_types(node)) for node in graph.nodes}
        smaller = []
        for share in REMOVED:
            smaller.append(graph.copy())
            PruneChannels(ratio=share, least=0.0).run(smaller[-1], PassContext(target=target))
        for version in (graph, *smaller):
            sizes = {node.outputs[0].name: _size(node, *_types(node)) for node in version.nodes}
            for name, seconds in kernel_seconds(version, target).items():
                if full.get(name) and name in sizes:
                    points.setdefault(name, {})[sizes[name] / full[name]] = seconds
        self._full = full
        self._curves = {name: _curve(found) for name, found in points.items()}

    def __call__(self, node: Node, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> float:
        """Seconds of the kernel whose heart the node is; 0 for nodes that were fused into others."""
        name = node.outputs[0].name
        if name not in self._curves:
            return 0.0
        shares, seconds = self._curves[name]
        return float(np.interp(_size(node, inputs, outputs) / self._full[name], shares, seconds))


def _curve(points: dict[float, float]) -> tuple[list[float], list[float]]:
    """Shares of the size and seconds, ascending; noise must not make less work take longer."""
    shares = sorted(points)
    seconds = np.minimum.accumulate([points[share] for share in reversed(shares)])[::-1].tolist()
    if shares[0] > 0:
        # The line through the two smallest points, but not below 0.
        slope = 0.0 if len(shares) < 2 else (seconds[1] - seconds[0]) / (shares[1] - shares[0])
        shares, seconds = [0.0, *shares], [max(0.0, seconds[0] - slope * shares[0]), *seconds]
    return shares, seconds


def _types(node: Node) -> tuple[list[TensorType | None], list[TensorType]]:
    return [None if value is None else value.type for value in node.inputs], [value.type for value in node.outputs]


def _size(node: Node, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> float:
    macs = node.definition.macs(inputs, outputs, node.attributes)
    return float(macs) if isinstance(macs, int) and macs else float(sum(type.bytes for type in outputs))


def kernel_seconds(graph: Graph, target: Target) -> dict[str, float]:
    """Compiles a graph and times its kernels as they run in the network: the fastest of several runs.

    Args:
        graph: with fixed shapes, not fused; it stays as it is.
        target: this machine.

    Returns:
        Name of the result of the node at a kernel's heart (the last one where there is no anchor) → seconds.
    """
    optimized = graph.copy()
    default_pipeline(target).run(optimized, PassContext(target=target, verify=False, keep_reproducer=False))
    use_threads(target.cores)
    lowered = build(optimized, target)
    hearts = [_heart(step.node) for step in lowered.plan.calls]
    machine = virtual_machine(lowered.executable)
    main = machine["main"]
    inputs = example_inputs(optimized)
    arguments = [tvm.runtime.tensor(inputs[value.name]) for value in optimized.inputs]
    trace = _Trace()
    main(*arguments)
    machine.set_instrument(trace)
    for _ in range(_REPEATS):
        trace.index = 0
        main(*arguments)
    if len(trace.seconds) != len(hearts):
        raise EdgeIRError("kernels cannot be told apart", expected=f"{len(hearts)} kernels", got=len(trace.seconds))
    result: dict[str, float] = {}
    for name, seconds in zip(hearts, trace.seconds, strict=True):
        result[name] = result.get(name, 0.0) + max(0.0, seconds - trace.overhead)
    return result


def _heart(node: Node) -> str:
    body = node.attributes.get("body")
    if not isinstance(body, Graph):
        return node.outputs[0].name
    anchors = [inner for inner in body.nodes if inner.op == node.attributes["anchor"]]
    return (anchors or list(body.nodes))[-1].outputs[0].name


class _Trace:
    """The virtual machine's instrument: called before and after every function that `main` calls."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.overhead = math.inf
        self.index = 0
        self._began = 0.0

    def __call__(self, _: Any, name: str, before: bool, *arguments: Any) -> None:
        now = time.perf_counter()
        if before:
            self._began = time.perf_counter()
        elif name.startswith("vm."):
            # A built-in does next to nothing: the least that it takes is the instrument's own time.
            self.overhead = min(self.overhead, now - self._began)
        else:
            if self.index == len(self.seconds):
                self.seconds.append(math.inf)
            self.seconds[self.index] = min(self.seconds[self.index], now - self._began)
            self.index += 1
