"""Latency of pruned networks beside the whole ones, compiled for this machine.

    python -m benchmarks.pruning [MODEL…] [--prune "prune-channels{target-macs=0.5}"] [--measured] [--threads 1]
        [--rounds 40] [--json FILE]

Channels are removed from the networks (by default EfficientNet-Lite0 and ResNet-18) until half of the
multiply-accumulates are left; both versions are compiled with untuned schedules and run in turns in one process. Two
ratios are given, pruned over whole: of the fastest runs, and of the sums of every kernel's fastest time, which other
work on the machine disturbs less. With random weights (ResNet-18) this tells speed only. Written to
benchmarks/results/ as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.latency import machine
from benchmarks.networks import network, random_inputs
from edgeir.compiler import compile
from edgeir.ir import Graph
from edgeir.layer_latency import kernel_seconds
from edgeir.prune import prune
from edgeir.runtime import Session
from edgeir.targets import Target, lookup

RESULTS = Path(__file__).parent / "results"
KERNEL_ROUNDS = 3
NETWORKS = ("efficientnet_lite0", "resnet18")
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    report: Row = {"format": 1, "machine": machine(), "pruning": options.prune, "results": []}
    report["threads"] = options.threads
    heading = f"{'run, ms':>17}{'ratio':>7}{'kernels, ms':>17}{'ratio':>7}"
    print(f"{'network':<20}{'MACs':>16}{'parameters':>18}{heading}")
    for name in options.models or NETWORKS:
        row = measure(name, options.prune, options.threads, options.rounds, options.measured)
        report["results"].append(row)
        print(table_row(row), flush=True)
    path = options.json or RESULTS / "pruning.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(name: str, pruning: str, threads: int, rounds: int, measured: bool) -> Row:
    """Prunes, compiles and times one network.

    Returns:
        network, and for `whole` and `pruned` the macs, parameters, bytes and `min_ms`; `ratio` of the times.
    """
    item = network(name)
    target = lookup("host").with_cores(threads)
    result = prune(item.path, pruning, target=target, shapes=item.shapes, measure=measured)
    inputs = random_inputs(item)
    best = [math.inf, math.inf]
    with tempfile.TemporaryDirectory() as folder:
        versions = {"whole": result.simplified, "pruned": result.graph}
        sessions = [_session(graph, target, Path(folder) / name) for name, graph in versions.items()]
        for _ in range(rounds):
            for index, session in enumerate(sessions):
                for _ in range(3):
                    start = time.perf_counter()
                    session.run(inputs)
                    best[index] = min(best[index], time.perf_counter() - start)
    kernels: list[list[dict[str, float]]] = [[], []]
    for _ in range(KERNEL_ROUNDS):
        for index, graph in enumerate(versions.values()):
            kernels[index].append(kernel_seconds(graph, target))
    sums = [sum(min(found[name] for found in rounds_of) for name in rounds_of[0]) for rounds_of in kernels]
    costs = (result.before, result.after)
    rows = [
        {
            "macs": cost.macs,
            "parameters": cost.parameters,
            "bytes": cost.bytes,
            "min_ms": seconds * 1e3,
            "kernels_ms": alone * 1e3,
        }
        for cost, seconds, alone in zip(costs, best, sums, strict=True)
    ]
    row: Row = {"network": item.name, "whole": rows[0], "pruned": rows[1], "ratio": best[1] / best[0]}
    row["kernels_ratio"] = sums[1] / sums[0]
    row["channels"] = {name: [old.channels, new.channels] for name, old, new in result.layers}
    return row


def _session(graph: Graph, target: Target, folder: Path) -> Session:
    compile(graph, target, output=folder, tuned=False)
    return Session(folder, target.cores)


def table_row(row: Row) -> str:
    """One line of the table."""
    whole, pruned = row["whole"], row["pruned"]
    macs = f"{whole['macs'] / 1e6:.0f} → {pruned['macs'] / 1e6:.0f} M"
    parameters = f"{whole['parameters'] / 1e6:.2f} → {pruned['parameters'] / 1e6:.2f} M"
    times = f"{whole['min_ms']:.2f} → {pruned['min_ms']:.2f}"
    kernels = f"{whole['kernels_ms']:.2f} → {pruned['kernels_ms']:.2f}"
    ratios = f"{times:>17}{row['ratio']:>7.3f}{kernels:>17}{row['kernels_ratio']:>7.3f}"
    return f"{row['network']:<20}{macs:>16}{parameters:>18}{ratios}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pruning", description="Latency of pruned networks beside the whole ones."
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"short names or paths; else {', '.join(NETWORKS)}")
    parser.add_argument("--prune", default="prune-channels{target-macs=0.5}", help="the pruning, as text of a pass")
    parser.add_argument("--measured", action="store_true", help="time layers for target-latency")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
