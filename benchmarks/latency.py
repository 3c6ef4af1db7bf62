"""Latency of EdgeIR's untuned code beside other inference engines.

    python -m benchmarks.latency MODEL… [--suite] [--threads 1 2] [--against onnxruntime openvino mnn tvm]
        [--shape NAME=1x3x64x64] [--rounds 7] [--turn 0.3] [--profile] [--target host] [--json FILE]

A MODEL is a path or a short name (`benchmarks/networks.py`); `--suite` is all short names. The contenders of one model
and one number of threads take turns: in each round each runs for `--turn` seconds, in rotated order, in a process of
its own (`benchmarks/workers.py` says why). The time of a run is a whole call from Python, numpy arrays in and out.
Ratios are of minima, EdgeIR's over the other's: below 1 is faster. Written to benchmarks/results/ as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import CONTENDERS, EdgeIR
from benchmarks.latency_tables import latency_table, profile_tables, summary_lines
from benchmarks.networks import STANDARD, Network, Shapes, network
from benchmarks.profile_process import profile_in_process
from benchmarks.workers import Prepared, Worker, WorkerError
from edgeir.errors import EdgeIRError
from edgeir.targets import cpu_features, host, host_cores

RESULTS = Path(__file__).parent / "results"
OURS = EdgeIR.name
_PAUSE = 0.02  # seconds between turns, so that the pool of the contender before has stopped spinning

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    names = [*options.models, *(STANDARD if options.suite else ())]
    if not names:
        _parser().error("give at least one MODEL, or --suite")
    if options.threads is None:
        options.threads = list(range(1, min(2, host_cores()) + 1)) if options.suite else [1]
    if max(options.threads) > host_cores():
        _parser().error(f"this process may use {host_cores()} cores")
    report: Row = {"format": 1, "machine": machine(), "settings": _settings(options), "results": [], "profiles": []}
    print(f"{report['machine']['cpu']}, {host_cores()} cores, {report['machine']['vector_bits']}-bit vectors")
    try:
        shapes = _shapes(options.shape)
    except EdgeIRError as error:
        _parser().error(str(error))
    path = options.json or RESULTS / f"latency_{'suite' if options.suite else '_'.join(map(_stem, names))}.json"
    for threads in options.threads:
        for name in names:
            try:
                item = network(name, shapes)
            except EdgeIRError as error:
                print(f"\n{name}: {error}", file=sys.stderr)
                report["results"].append({"model": name, "threads": threads, "shapes": {}, "error": str(error)})
                _write(report, path)
                continue
            result = measure(item, threads, options)
            report["results"].append(result)
            print(latency_table(result), flush=True)
            if options.profile:
                found = _profile(item, options.target, threads)
                report["profiles"].append({"model": item.name, "threads": threads, **found})
                print(profile_tables(found), flush=True)
            _write(report, path)
    print("\n".join(summary_lines(report["summary"])))
    return 0


def _write(report: Row, path: Path) -> None:
    """Writes what there is so far: a long run that is interrupted keeps its results."""
    report["summary"] = summary(report["results"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def machine() -> Row:
    """What was measured on, without anything that names the machine itself."""
    target = host()
    return {
        "cpu": _cpu_name(),
        "architecture": target.architecture,
        "system": platform.system(),
        "python": platform.python_version(),
        "cores": host_cores(),
        "vector_bits": target.vector_bits,
        "caches": {"l1": target.l1_bytes, "l2": target.l2_bytes, "l3": target.l3_bytes},
        "features": sorted(cpu_features()),
    }


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def measure(item: Network, threads: int, options: argparse.Namespace) -> Row:
    """Times all contenders on one network.

    Returns:
        model, shapes, threads, and for each contender a row: `min_ms`, `median_ms`, `runs`, `prepare_s`, `versions`,
        `error_by_range` (largest absolute difference from the reference's outputs by their range), or `failure`.
    """
    rows: dict[str, Row] = {}
    outputs: dict[str, list[np.ndarray]] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in (OURS, *options.against):
            worker = stack.enter_context(Worker(name, options.target, item, threads))
            try:
                # One after the other: preparing is heavy, and is reported too.
                prepared: Prepared = worker.prepared()
            except WorkerError as error:
                rows[name] = {"failure": str(error)}
                continue
            workers[name], outputs[name] = worker, prepared.outputs
            rows[name] = {"prepare_s": prepared.seconds, "versions": prepared.versions}
        times = _interleave(workers, rows, options.rounds, options.turn)
    for name, found in times.items():
        rows[name] |= {
            "min_ms": min(found) * 1e3,
            "median_ms": statistics.median(found) * 1e3,
            "runs": len(found),
        }
    reference = next((name for name in ("onnxruntime", *rows) if name in outputs), None)
    for name, arrays in outputs.items():
        rows[name]["error_by_range"] = error_by_range(arrays, outputs[reference or name])
    return {
        "model": item.name,
        "shapes": {key: list(shape) for key, shape in item.shapes.items()},
        "threads": threads,
        "reference": reference,
        "contenders": rows,
        **ratios(rows),
    }


def _interleave(
    workers: dict[str, Worker], rows: dict[str, Row], rounds: int, seconds: float
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in workers}
    for round_number in range(rounds):
        order = list(times)
        shift = round_number % max(1, len(order))
        for name in (*order[shift:], *order[:shift]):
            try:
                times[name] += workers[name].turn(seconds)
            except WorkerError as error:
                rows[name]["failure"] = str(error)
                del times[name]
            time.sleep(_PAUSE)
    return times


def error_by_range(arrays: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float | None:
    """The largest, over outputs, of the absolute difference by the reference's range; None if shapes differ."""
    worst = 0.0
    if [np.size(a) for a in arrays] != [np.size(b) for b in reference]:
        return None
    for a, b in zip(arrays, reference, strict=True):
        a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
        spread = float(np.ptp(b)) or float(np.abs(b).max(initial=0.0)) or 1.0
        error = float(np.abs(a - b).max(initial=0.0)) / spread
        if not math.isfinite(error):
            return None
        worst = max(worst, error)
    return worst


def ratios(rows: dict[str, Row]) -> Row:
    """`ratios`: other → ours by other's minimum; `fastest_other` and `ratio` to that (None where one is missing)."""
    ours = rows[OURS].get("min_ms")
    others = {name: row["min_ms"] for name, row in rows.items() if name != OURS and "min_ms" in row}
    fastest = min(others, key=lambda name: others[name]) if others else None
    found = {name: ours / value for name, value in others.items()} if ours else {}
    return {"ratios": found, "fastest_other": fastest, "ratio": found.get(fastest) if fastest else None}


def summary(results: Sequence[Row]) -> list[Row]:
    """For each number of threads: geometric means over the models, against each other and against the fastest."""
    rows = []
    for threads in dict.fromkeys(result["threads"] for result in results):
        mine = [result for result in results if result["threads"] == threads and result.get("ratio")]
        names = dict.fromkeys(name for result in mine for name in result["ratios"])
        against = {name: [r["ratios"][name] for r in mine if name in r["ratios"]] for name in names}
        rows.append(
            {
                "threads": threads,
                "models": len(mine),
                "missing": [r["model"] for r in results if r["threads"] == threads and not r.get("ratio")],
                "geometric_mean": statistics.geometric_mean([r["ratio"] for r in mine]) if mine else None,
                "largest": max((r["ratio"] for r in mine), default=None),
                "against": {
                    name: {"models": len(values), "geometric_mean": statistics.geometric_mean(values)}
                    for name, values in against.items()
                },
            }
        )
    return rows


def _profile(item: Network, target: str, threads: int) -> Row:
    """A profile in a process of its own, so that TVM's thread pool is made there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(profile_in_process, item, target, threads).result()
        except Exception as error:
            return {"failure": f"{type(error).__name__}: {error}"}


def _settings(options: argparse.Namespace) -> Row:
    keys = ("threads", "against", "rounds", "turn", "target")
    return {key: getattr(options, key) for key in keys}


def _stem(name: str) -> str:
    return Path(name).stem


def _shapes(texts: Sequence[str]) -> Shapes:
    shapes: Shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        parts = sizes.replace(",", "x").split("x")
        if not name or not all(part.isdigit() for part in parts):
            raise EdgeIRError("A shape cannot be read.", where="--shape", expected="NAME=1x3x64x64", got=repr(text))
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency", description="Latency of EdgeIR beside other inference engines."
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"a path, or one of {', '.join(STANDARD)}")
    parser.add_argument("--suite", action="store_true", help="all short names")
    parser.add_argument("--threads", nargs="+", type=int, default=None, help="1; with --suite 1 and as many as 2")
    parser.add_argument("--against", nargs="*", choices=list(CONTENDERS), default=["onnxruntime", "openvino", "mnn"])
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=SIZES", help="an input's sizes: x=1x3x64x64"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=0.3, help="seconds of one contender's turn")
    parser.add_argument("--target", default="host", help="what EdgeIR compiles for")
    parser.add_argument("--profile", action="store_true", help="the time of each kernel beside the machine's limits")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
