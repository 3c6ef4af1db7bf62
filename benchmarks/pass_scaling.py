"""How pass time grows with the graph: generated graphs of 10,000 and 20,000 nodes through the default pipeline.

    python benchmarks/pass_scaling.py [--nodes 10000 20000] [--repeats 2] [--output FILE]

Prints a table and writes JSON into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeir.ir import Builder, Graph, Value
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext, PipelineReport

RESULTS = Path(__file__).parent / "results"
SHAPE = "float32[1, 8, 4, 4]"


def chain(nodes: int) -> Graph:
    """Convolution, bias, activation and something to simplify, one after the other."""
    b = Builder("chain")
    value = b.input("x", SHAPE)
    weights = b.constant(np.full((8, 8, 1, 1), 0.125, np.float32), "w")
    bias = b.constant(np.full((8, 1, 1), 0.5, np.float32), "b")
    zero = b.constant(np.zeros((), np.float32), "zero")
    while len(b.graph) < nodes:
        value = b.conv(value, weights, strides=(1, 1), padding=(0, 0, 0, 0), dilations=(1, 1))
        value = b.relu(b.add(b.add(value, bias), zero))
    return b.outputs(y=value)


def diamonds(nodes: int) -> Graph:
    """Residual blocks with a gated branch: paths part and meet again."""
    b = Builder("diamonds")
    value = b.input("x", SHAPE)
    weights = b.constant(np.full((8, 8, 1, 1), 0.125, np.float32), "w")
    while len(b.graph) < nodes:
        left = b.conv(value, weights, strides=(1, 1), padding=(0, 0, 0, 0), dilations=(1, 1))
        gate = b.sigmoid(b.reduce_mean(left, axes=(2, 3)))
        value = b.add(b.mul(left, gate), b.tanh(value))
    return b.outputs(y=value)


def ladder(nodes: int) -> Graph:
    """Elementwise work where every value is read by the next two, without a common meeting point."""
    b = Builder("ladder")
    first: Value = b.input("x", SHAPE)
    second = b.exp(first)
    while len(b.graph) < nodes:
        first, second = second, b.add(first, second)
    return b.outputs(y=second)


def fan(nodes: int) -> Graph:
    """One value that a third of all nodes reads."""
    b = Builder("fan")
    source = b.tanh(b.input("x", SHAPE))
    total = source
    while len(b.graph) < nodes:
        total = b.add(total, b.neg(b.mul(source, np.array([len(b.graph)], np.float32))))
    return b.outputs(y=total)


GENERATORS: dict[str, Callable[[int], Graph]] = {f.__name__: f for f in (chain, diamonds, ladder, fan)}


def measure(make: Callable[[int], Graph], nodes: int, repeats: int) -> tuple[float, float, PipelineReport]:
    """Wall and processor seconds of the fastest run, all that `Pipeline.run` does included, and its report."""
    best: tuple[float, float, PipelineReport] | None = None
    for _ in range(repeats):
        graph = make(nodes)
        start, start_processor = time.perf_counter(), time.process_time()
        report = default_pipeline().run(graph, PassContext())
        processor, seconds = time.process_time() - start_processor, time.perf_counter() - start
        if best is None or processor < best[1]:
            best = seconds, processor, report
    assert best is not None
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "pass_scaling.json")
    options = parser.parse_args()
    rows = []
    print(f"{'graph':<12}{'nodes':>8}{'wall s':>10}{'CPU s':>10}{'CPU µs/node':>13}{'CPU ratio':>11}")
    for name, make in GENERATORS.items():
        previous = None
        for nodes in options.nodes:
            seconds, processor, report = measure(make, nodes, options.repeats)
            ratio = processor / previous if previous else None
            previous = processor
            shown = f"{ratio:.2f}" if ratio else ""
            times = f"{seconds:>10.2f}{processor:>10.2f}{processor / nodes * 1e6:>13.1f}"
            print(f"{name:<12}{nodes:>8}{times}{shown:>11}", flush=True)
            passes = [
                {"pass": item.text, "seconds": item.seconds, "verify_seconds": item.verify_seconds}
                | {"nodes_before": item.nodes_before, "nodes_after": item.nodes_after}
                for item in report.passes
            ]
            row = {"graph": name, "nodes": nodes, "seconds": seconds, "processor_seconds": processor, "ratio": ratio}
            rows.append(row | {"passes": passes})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
