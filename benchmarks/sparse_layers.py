"""Sparse kernels beside dense ones on the same pruned weights.

    python -m benchmarks.sparse_layers [NETWORK] [--zeros 0.8 0.9 0.95] [--targets x86-64-v3 host] [--threads 1]
        [--rounds 15] [--json FILE]

The smallest weights of every pointwise convolution of the network (by default MobileNetV2, random weights) are set to
zero, a share in each. Then each distinct layer is compiled with the sparse template and with the dense one, both
untuned, and both kernels run in turns in one process; beside the measured ratio (dense over sparse) stands the
estimated one, by which a layer gets its kernel. Next comes the whole network with the kernels chosen so, and with dense
kernels only, on the same weights, in turns. A few matrix products of one and of 64 rows follow. Times are minima.
Written to benchmarks/results/ as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from benchmarks.latency import machine
from benchmarks.networks import Network, network, random_inputs
from edgeir.frontend import load
from edgeir.ir import Builder, Graph, TensorType
from edgeir.ir.graph import Value
from edgeir.lowering.build import Lowered, build
from edgeir.lowering.layouts import to_physical
from edgeir.lowering.module import Scheduled, Step, plan
from edgeir.lowering.run import virtual_machine
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.runtime.threads import use_threads
from edgeir.schedules.select import matching
from edgeir.schedules.sparse_template import SparseTemplate
from edgeir.schedules.task import Task
from edgeir.schedules.template import Template
from edgeir.targets import Target, lookup

RESULTS = Path(__file__).parent / "results"
PRODUCTS = ((1, 1280, 1000), (1, 384, 1536), (64, 384, 384), (64, 384, 1536), (64, 1536, 384))
"""Rows, depth and columns of matrix products: a classifier, and the layers of a small transformer."""

SHORTEST_SECONDS = 0.002
"""Of one measurement, so that a call of the clock does not count."""

NETWORK_ROUNDS = 5
"""A network runs once in a round: it needs more of them to meet a quiet moment."""

Row = dict[str, Any]
Run = Callable[[], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    use_threads(options.threads)
    item = network(options.network)
    report: Row = {"format": 1, "machine": machine(), "network": item.name, "threads": options.threads, "results": []}
    path = options.json or RESULTS / "sparse_layers.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in options.targets:
        target = lookup(name).with_cores(options.threads)
        for zeros in options.zeros:
            print(f"\n{item.name}, {zeros:.0%} zeros, {name}", flush=True)
            row: Row = {"target": name, "zeros": zeros}
            row["layers"] = layers(pruned(item, zeros, target), target, options.rounds)
            row["network"] = whole(item, zeros, target, options.rounds)
            row["products"] = products(zeros, target, options.rounds)
            report["results"].append(row)
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def without_smallest(array: np.ndarray, zeros: float) -> np.ndarray:
    """The array with a share of its elements, those of least magnitude, set to zero."""
    kept = array.copy()
    kept.reshape(-1)[np.argsort(np.abs(array), axis=None)[: round(zeros * array.size)]] = 0
    return kept


def pruned(item: Network, zeros: float, target: Target) -> Graph:
    """The network with zeros in the weights of its pointwise convolutions, after the default passes."""
    graph = load(item.path, item.shapes)
    for node in list(graph.nodes):
        if node.op != "conv" or node.attributes["groups"] != 1 or not node.input(1).is_constant:
            continue
        weight = node.input(1).data
        if weight.shape[2:] == (1,) * (weight.ndim - 2):
            graph.set_input(node, 1, graph.add_constant(without_smallest(weight, zeros), "weight"))
    graph.remove_unused_constants()
    default_pipeline(target).run(graph, PassContext(target=target))
    return graph


def layers(graph: Graph, target: Target, rounds: int) -> list[Row]:
    """Each distinct kernel with a sparse weight, by both templates."""
    rows = []
    seen: set[str] = set()
    for step in plan(graph):
        if step.lowering is None or step.key in seen or step.lowering.task.sparsity is None:
            continue
        seen.add(step.key)
        row = layer(step, target, rounds)
        if row is not None:
            rows.append(row)
            print(_line(row), flush=True)
    return rows


def layer(step: Step, target: Target, rounds: int) -> Row | None:
    """One kernel by the sparse template and by the dense one that comes first; None where no sparse one matches."""
    assert step.lowering is not None
    task = step.lowering.task
    templates = matching(task, target)
    sparse = next((template for template in templates if isinstance(template, SparseTemplate)), None)
    if sparse is None:
        return None
    dense = next(template for template in templates if not isinstance(template, SparseTemplate))
    weight = _operand(step, task.anchor_operands[1])
    (sparse_run, stored), (dense_run, _) = (_kernel(step, template, target) for template in (sparse, dense))
    sparse_seconds, dense_seconds = in_turns([sparse_run, dense_run], rounds)
    return {
        "kernel": task.name,
        "input": list(task.anchor_inputs[0].shape),
        "output": list(task.anchor_output.shape),
        "weight": list(weight.shape),
        "chosen": templates[0].name,
        "config": dict(sparse.default(task, target)),
        "stored_share": stored / weight.nbytes,
        "dense_us": dense_seconds * 1e6,
        "sparse_us": sparse_seconds * 1e6,
        "ratio": dense_seconds / sparse_seconds,
        "estimated_ratio": sparse.gain(task, target),
    }


def _line(row: Row) -> str:
    shapes = f"{row['input']} x {row['weight']}"
    times = f"{row['dense_us']:9.1f} → {row['sparse_us']:7.1f} µs"
    return (
        f"{shapes:<48}{times} ratio {row['ratio']:5.2f}, estimated {row['estimated_ratio']:5.2f}, "
        f"stored {row['stored_share']:.1%}, {row['chosen']}"
    )


def _operand(step: Step, index: int | None) -> np.ndarray:
    assert step.lowering is not None and index is not None
    source = step.lowering.sources[index]
    return to_physical(source.data, source.type) if isinstance(source, Value) else source


def _kernel(step: Step, template: Template, target: Target) -> tuple[Run, int]:
    """A compiled kernel on example arguments, and the bytes of its packed weight."""
    assert step.lowering is not None
    task, rng = step.lowering.task, np.random.default_rng(0)
    kernel = template.apply(task, template.default(task, target), target)
    module = tvm.IRModule({task.name: kernel.func})
    library = tvm.tirx.build(module, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir")
    arrays = []
    for index, (operand, source) in enumerate(zip(task.operands, step.lowering.sources, strict=True)):
        if operand.constant:
            array = _operand(step, index)
            arrays.append(kernel.pack[index](array) if index in kernel.pack else array)
        else:
            assert isinstance(source, Value)
            arrays.append(rng.standard_normal(operand.spec.shape).astype(operand.spec.dtype))
    arrays += [np.zeros(spec.shape, spec.dtype) for spec in task.outputs]
    tensors = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]
    function = library[task.name]
    function(*tensors)
    weight = task.anchor_operands[1]
    assert weight is not None
    return (lambda: function(*tensors)), arrays[weight].nbytes


def in_turns(runs: Sequence[Run], rounds: int) -> list[float]:
    """The least seconds of one call of each, over rounds in which each is called for a while."""
    counts = [max(1, round(SHORTEST_SECONDS / max(_seconds(run, 3), 1e-7))) for run in runs]
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for index, (run, count) in enumerate(zip(runs, counts, strict=True)):
            best[index] = min(best[index], _seconds(run, count))
    return best


def _seconds(run: Run, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


def whole(item: Network, zeros: float, target: Target, rounds: int) -> Row:
    """The network with the kernels that are chosen, and with dense ones only, on the same weights."""
    graph = pruned(item, zeros, target)
    inputs = random_inputs(item)
    chosen, dense = build(graph, target), build(graph, target, scheduler=_dense_only(target))
    runs = [_network_run(graph, lowered, inputs) for lowered in (chosen, dense)]
    np.testing.assert_allclose(runs[0]()[0].numpy(), runs[1]()[0].numpy(), rtol=1e-3, atol=1e-3)
    sparse_seconds, dense_seconds = in_turns(runs, NETWORK_ROUNDS * rounds)
    row = {
        "dense_ms": dense_seconds * 1e3,
        "sparse_ms": sparse_seconds * 1e3,
        "ratio": dense_seconds / sparse_seconds,
        "dense_constant_bytes": dense.constant_bytes,
        "sparse_constant_bytes": chosen.constant_bytes,
        "sparse_kernels": sum(kernel.template.startswith("sparse") for kernel in chosen.kernels),
    }
    size = f"{row['dense_constant_bytes'] / 1e6:.2f} → {row['sparse_constant_bytes'] / 1e6:.2f} MB of constants"
    print(f"network: {row['dense_ms']:.2f} → {row['sparse_ms']:.2f} ms, ratio {row['ratio']:.2f}, {size}", flush=True)
    return row


def _dense_only(target: Target) -> Callable[[Task], Scheduled]:
    def schedule(task: Task) -> Scheduled:
        template = next(t for t in matching(task, target) if not isinstance(t, SparseTemplate))
        config = template.default(task, target)
        return Scheduled(task, template.name, config, template.apply(task, config, target))

    return schedule


def _network_run(graph: Graph, lowered: Lowered, inputs: dict[str, np.ndarray]) -> Run:
    run = virtual_machine(lowered.executable)["main"]
    tensors = [tvm.runtime.tensor(inputs[value.name]) for value in graph.inputs]
    return lambda: run(*tensors)


def products(zeros: float, target: Target, rounds: int) -> list[Row]:
    """Matrix products with a bias, by both templates."""
    rows = []
    rng = np.random.default_rng(0)
    for count, depth, columns in PRODUCTS:
        b = Builder("product")
        x = b.input("x", TensorType("float32", (count, depth)))
        weight = without_smallest(rng.standard_normal((depth, columns)).astype(np.float32), zeros)
        y = b.node("matmul", x, weight).output
        graph = b.outputs(y=b.node("add", y, rng.standard_normal(columns).astype(np.float32)).output)
        FuseOperators().run(graph, PassContext(target=target))
        rows += layers(graph, target, rounds)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sparse_layers", description="Sparse kernels beside dense ones on pruned weights."
    )
    parser.add_argument("network", nargs="?", default="mobilenetv2", help="short name or path of an ONNX file")
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--targets", nargs="+", default=["x86-64-v3", "host"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
