"""Measured trials per second of the tuner, on the convolutions of a network.

    python -m benchmarks.tuning_rate MODEL.onnx [--seconds 60] [--threads 1] [--output FILE.json]

Candidates are drawn as the tuner draws them; a trial is a candidate that was built, checked against the reference
evaluator and timed beside the default. Failed candidates count as trials and are listed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgeir.compiler import load_model
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from edgeir.tuning.measure import ProcessMeasurer
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import kernel_tasks
from edgeir.tuning.tuner import Tuner


def measure(model: Path, seconds: float, threads: int) -> dict[str, Any]:
    """Tunes the convolutions for some seconds; the processes' start is counted apart."""
    target = lookup("host").with_cores(threads)
    graph = load_model(model)
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
        trials = tuner.trials - 1
    return {
        "model": model.stem,
        "target": target.to_dict(),
        "threads": threads,
        "kernels": len(tasks),
        "start_seconds": began - start,
        "seconds": elapsed,
        "trials": trials,
        "trials_per_second": trials / elapsed,
        "errors": dict(errors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = measure(options.model, options.seconds, options.threads)
    print(f"{result['trials_per_second']:.2f} trials per second, {result['trials']} in {result['seconds']:.1f} s")
    print(result["errors"])
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
