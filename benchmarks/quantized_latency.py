"""What 8 bits gain: EdgeIR's integer code beside its float code, and beside other engines on the same quantized model.

    python -m benchmarks.quantized_latency [MODEL…] [--targets host x86-64-v3] [--against onnxruntime openvino]
        [--threads 1] [--bits 8] [--scheme linear] [--rounds 5] [--turn 0.3] [--json FILE]

Each model is calibrated on seeded random inputs, which is enough for a timing, and written as standard ONNX QDQ. That
one file is what EdgeIR, onnxruntime and OpenVINO run; EdgeIR's float code and onnxruntime's run the model it was made
of. All take turns, each in a process of its own (`benchmarks/workers.py`). `gain` is float EdgeIR's minimum over
integer EdgeIR's for the same target: above 1 is faster. `ratios` are integer EdgeIR's minimum over another engine's:
below 1 is faster; the other engines always use the whole machine, so only `host` is compared with them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import edgeir
from benchmarks.latency import RESULTS, machine
from benchmarks.latency_tables import table
from benchmarks.networks import Network, network, random_inputs
from benchmarks.workers import Prepared, Worker, WorkerError

MODELS = ("mobilenetv2", "efficientnet_lite0", "resnet18")
OURS = "edgeir"
_PAUSE = 0.02
_SAMPLES = 4

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--targets", nargs="+", default=["host", "x86-64-v3"])
    parser.add_argument("--against", nargs="*", default=["onnxruntime", "openvino"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--scheme", default="linear")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.3)
    parser.add_argument("--json", type=Path, default=RESULTS / "quantized_latency.json")
    options = parser.parse_args(arguments)
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    report: Row = {"format": 1, "machine": machine(), "settings": settings, "results": []}
    for name in options.models:
        report["results"].append(measure(network(name), options))
        print(model_table(report["results"][-1]), flush=True)
        report["summary"] = summary(report["results"])
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print()
    for key, value in report["summary"].items():
        print(f"{key}: geometric mean {value:.3f}")
    return 0


def quantized(item: Network, target: str, options: argparse.Namespace, folder: Path) -> Network:
    """The network with quantized weights and activations, as a QDQ file in `folder`."""
    samples = [random_inputs(item, seed) for seed in range(_SAMPLES)]
    result = edgeir.quantize(
        *(item.path, samples), target=target, bits=options.bits, scheme=options.scheme, shapes=item.shapes
    )
    path = folder / f"{item.name}_{target}.onnx"
    edgeir.export_onnx(result.graph, path)
    return replace(item, path=path)


def measure(item: Network, options: argparse.Namespace) -> Row:
    """Times every contender on one network.

    Returns:
        model; contenders: label → row with `min_ms`, `median_ms`, `runs`, or `failure`; gain: target → float time by
        integer time of EdgeIR; ratios: other engine → integer EdgeIR's time by its time on `host`.
    """
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        models = {target: quantized(item, target, options, Path(folder)) for target in options.targets}
        contenders = [(f"{OURS} float {target}", OURS, target, item) for target in options.targets]
        contenders += [(f"{OURS} int {target}", OURS, target, models[target]) for target in options.targets]
        if "host" in options.targets:
            contenders += [(f"{name} int", name, "host", models["host"]) for name in options.against]
            contenders += [(f"{name} float", name, "host", item) for name in options.against]
        workers: dict[str, Worker] = {}
        for label, name, target, model in contenders:
            worker = stack.enter_context(Worker(name, target, model, options.threads))
            try:
                prepared: Prepared = worker.prepared()
            except WorkerError as error:
                rows[label] = {"failure": str(error)}
                continue
            workers[label], rows[label] = worker, {"versions": prepared.versions}
        times: dict[str, list[float]] = {label: [] for label in workers}
        for number in range(options.rounds):
            order = list(workers)
            shift = number % max(1, len(order))
            for label in (*order[shift:], *order[:shift]):
                times[label] += workers[label].turn(options.turn)
                time.sleep(_PAUSE)
    for label, found in times.items():
        rows[label] |= {"min_ms": min(found) * 1e3, "median_ms": statistics.median(found) * 1e3, "runs": len(found)}
    return {"model": item.name, "contenders": rows, "gain": _gain(rows, options), "ratios": _ratios(rows, options)}


def _least(rows: dict[str, Row], label: str) -> float | None:
    return rows.get(label, {}).get("min_ms")


def _gain(rows: dict[str, Row], options: argparse.Namespace) -> dict[str, float]:
    found = {}
    for target in options.targets:
        wide, narrow = _least(rows, f"{OURS} float {target}"), _least(rows, f"{OURS} int {target}")
        if wide and narrow:
            found[target] = wide / narrow
    return found


def _ratios(rows: dict[str, Row], options: argparse.Namespace) -> dict[str, float]:
    ours = _least(rows, f"{OURS} int host")
    others = {name: _least(rows, f"{name} int") for name in options.against}
    return {name: ours / other for name, other in others.items() if ours and other}


def summary(results: Sequence[Row]) -> dict[str, float]:
    """Geometric means over the models, of each gain, of each ratio and of the ratio to the fastest other engine."""
    values: dict[str, list[float]] = {}
    for result in results:
        for target, gain in result["gain"].items():
            values.setdefault(f"gain {target}", []).append(gain)
        for name, ratio in result["ratios"].items():
            values.setdefault(f"against {name}", []).append(ratio)
        if result["ratios"]:
            values.setdefault("against the fastest", []).append(max(result["ratios"].values()))
    return {key: math.exp(statistics.fmean(map(math.log, found))) for key, found in values.items()}


def model_table(result: Row) -> str:
    """One model's contenders, one per line, and what its integers gain."""
    lines, failures = [], []
    for label, row in result["contenders"].items():
        if "failure" in row:
            failures.append(f"{label}: {row['failure']}")
        else:
            lines.append([label, f"{row['min_ms']:.3f}", f"{row['median_ms']:.3f}", str(row["runs"])])
    gains = [f"gain on {target}: {gain:.2f}" for target, gain in result["gain"].items()]
    gains += [f"int/{name} int: {ratio:.2f}" for name, ratio in result["ratios"].items()]
    return "\n".join(
        [f"\n{result['model']}", table(["contender", "min ms", "median ms", "runs"], lines), *failures, *gains]
    )


if __name__ == "__main__":
    raise SystemExit(main())
