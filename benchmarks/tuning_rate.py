"""Measured trials per second on the convolutions of a network: EdgeIR's tuner, and TVM's own, one after the other.

    python -m benchmarks.tuning_rate [mobilenetv2 | MODEL.onnx] [--seconds 40] [--metaschedule-seconds 120]
        [--threads 1] [--output benchmarks/results/tuning_rate.json]

Candidates are drawn as each tuner draws them. A trial of EdgeIR's is a candidate that was built, checked against the
reference evaluator and timed beside the default; one of MetaSchedule's was built and timed. Failed candidates count as
trials and are listed. The start of processes and what is imported once are counted apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.metaschedule import MetaSchedule
from benchmarks.networks import Network, network
from edgeir.compiler import load_model
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import host_cores, lookup
from edgeir.tuning.measure import ProcessMeasurer
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import kernel_tasks
from edgeir.tuning.tuner import Tuner
from edgeir.tuning.versions import compiler_versions


def edgeir_rate(item: Network, seconds: float, threads: int) -> dict[str, Any]:
    """Tunes the convolutions for some seconds."""
    target = lookup("host").with_cores(threads)
    graph = load_model(item.path, item.shapes)
    default_pipeline(target).run(graph, PassContext(target=target))
    tasks = [task for task in kernel_tasks(graph, target) if task.task.anchor == "conv"]
    with (
        tempfile.TemporaryDirectory() as folder,
        RecordStore(Path(folder) / "records.sqlite") as store,
        ProcessMeasurer(threads) as measurer,
    ):
        tuner = Tuner(tasks, store, measurer)
        start = time.perf_counter()
        tuner.run(trials=1)
        began = time.perf_counter()
        tuner.run(seconds=seconds)
        elapsed = time.perf_counter() - began
        errors = Counter(record.error or "none" for record in store.records())
        errors["none"] -= 1
    return {
        "tuner": "edgeir",
        "kernels": len(tasks),
        "start_seconds": began - start,
        "seconds": elapsed,
        "trials": tuner.trials - 1,
        "trials_per_second": (tuner.trials - 1) / elapsed,
        "errors": dict(errors),
    }


def metaschedule_rate(item: Network, seconds: float, threads: int) -> dict[str, Any]:
    """Lets MetaSchedule search for some seconds; where it fails, the row says why."""
    row: dict[str, Any] = {"tuner": "metaschedule"}
    start = time.perf_counter()
    try:
        with MetaSchedule(item.path, item.shapes, threads) as search:
            row["kernels"] = search.prepare()
            row["start_seconds"] = time.perf_counter() - start
            progress = search.measure(seconds)
    except RuntimeError as error:
        return {**row, "failure": str(error)}
    return {
        **row,
        "seconds": progress.seconds,
        "trials": progress.trials,
        "trials_per_second": progress.trials / progress.seconds,
        "build_seconds": progress.build_seconds,
        "run_seconds": progress.run_seconds,
        "search_seconds": progress.seconds - progress.build_seconds - progress.run_seconds,
        "errors": progress.errors,
    }


def show(report: dict[str, Any]) -> None:
    """Prints the rows."""
    title = f"{report['model']}, {report['threads']} thread(s), {report['cores']} cores"
    table = Table("tuner", "kernels", "trials", "failed", "seconds", "trials/s", title=title)
    for row in report["rows"]:
        if "failure" in row:
            table.add_row(row["tuner"], str(row.get("kernels", "")), row["failure"])
            continue
        failed = row["trials"] - row["errors"].get("none", 0)
        figures = f"{row['seconds']:.1f}", f"{row['trials_per_second']:.2f}"
        table.add_row(row["tuner"], str(row["kernels"]), str(row["trials"]), str(failed), *figures)
    Console().print(table)
    for row in report["rows"]:
        if "search_seconds" in row:
            parts = [f"{row[f'{part}_seconds']:.1f} s to {part}" for part in ("search", "build", "run")]
            print(f"{row['tuner']}: {', '.join(parts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", nargs="?", default="mobilenetv2", help="a short name of benchmarks.networks, or a path"
    )
    parser.add_argument("--seconds", type=float, default=40, help="for EdgeIR's tuner")
    parser.add_argument(
        "--metaschedule-seconds", type=float, default=120, help="for TVM's, which works in rounds; 0: no"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    item = network(options.model)
    rows = [edgeir_rate(item, options.seconds, options.threads)]
    if options.metaschedule_seconds > 0:
        rows.append(metaschedule_rate(item, options.metaschedule_seconds, options.threads))
    report = {
        "model": item.name,
        "target": lookup("host").with_cores(options.threads).to_dict(),
        "threads": options.threads,
        "cores": host_cores(),
        "versions": compiler_versions(),
        "rows": rows,
    }
    show(report)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
