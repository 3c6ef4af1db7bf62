"""What tuning gives: whole models, tuned beside untuned and beside other inference engines.

    python -m benchmarks.tuning_gain [MODEL…] [--threads 1 2] [--minutes 10] [--against onnxruntime openvino mnn]
        [--records FILE] [--json FILE]

Each model is tuned for each number of threads (`edgeir tune`; records that exist are continued), then all contenders
take turns as in `benchmarks.latency`. Ratios are of minima: tuned by untuned, and tuned by the fastest other engine.
`progress` holds the predicted time of the kernels by the default's, after so many seconds, and `early` what it was
after four minutes by the last one. `kernels` says what was found for each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, EdgeIR, TunedEdgeIR
from benchmarks.latency import machine, measure
from benchmarks.latency_tables import latency_table
from benchmarks.networks import Network, network
from edgeir.commands.tune import TuneOptions, tune
from edgeir.tuning.tuner import Tuner

RESULTS = Path(__file__).parent / "results"
MODELS = ("mobilenetv2", "resnet18", "efficientnet_lite0", "ppocrv4_det_320")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    records = options.records.resolve()
    # Contenders run in processes of their own, which read it from here.
    os.environ["EDGEIR_RECORDS"] = str(records)
    report: dict[str, Any] = {"format": 1, "machine": machine(), "minutes": options.minutes, "results": []}
    for threads in options.threads:
        for name in options.models or MODELS:
            item = network(name)
            found = _tuned(item, threads, options.minutes, records)
            timing = argparse.Namespace(
                target="host", against=[TunedEdgeIR.name, *options.against], rounds=options.rounds, turn=0.3
            )
            row = measure(item, threads, timing)
            print(latency_table(row), flush=True)
            report["results"].append({**row, **found, **gains(row["contenders"])})
            report["summary"] = summary(report["results"])
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


def _tuned(item: Network, threads: int, minutes: float, records: Path) -> dict[str, Any]:
    """Tunes; returns the number of trials, the pipeline, the kernels, and the progress."""
    running: list[Tuner] = []
    progress: list[tuple[float, float]] = []
    start = time.monotonic()

    def note(_: object) -> None:
        tuner = running[0]
        if all(part.default_seconds is not None for part in tuner.progress):
            progress.append((time.monotonic() - start, tuner.seconds / tuner.default_seconds))

    options = TuneOptions(item.path, "host", item.shapes, minutes=minutes, threads=threads, records=records)
    found = tune(options, running.append, note)
    return {
        "trials": found.trials,
        "passes": found.passes,
        "kernels": list(found.kernels),
        "progress": progress,
        "early": early(progress),
    }


def early(progress: Sequence[tuple[float, float]], seconds: float = 240.0) -> float | None:
    """The predicted time after so many seconds, by the last one; None where less is known."""
    reached = [ratio for second, ratio in progress if second <= seconds]
    return reached[-1] / progress[-1][1] if reached else None


def gains(rows: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """`tuned_by_untuned`, and `tuned_by_fastest_other` of the other engines."""
    ours, tuned = rows[EdgeIR.name].get("min_ms"), rows[TunedEdgeIR.name].get("min_ms")
    others = [row["min_ms"] for name, row in rows.items() if not name.startswith(EdgeIR.name) and "min_ms" in row]
    return {
        "tuned_by_untuned": tuned / ours if tuned and ours else None,
        "tuned_by_fastest_other": tuned / min(others) if tuned and others else None,
    }


def summary(results: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Geometric means over all results."""
    found: dict[str, float | None] = {}
    for key in ("tuned_by_untuned", "tuned_by_fastest_other"):
        values = [row[key] for row in results if row[key]]
        found[key] = statistics.geometric_mean(values) if values else None
    return found


def table(report: dict[str, Any]) -> str:
    """One line for each model and number of threads, and the geometric means."""
    lines = [f"{'model':<24}{'threads':>8}{'trials':>8}{'by untuned':>12}{'by fastest other':>18}{'after 4 min':>13}"]
    for row in report["results"]:
        line = f"{row['model']:<24}{row['threads']:>8}{row['trials']:>8}"
        ratios = [_ratio(row[key], width) for key, width in zip(report["summary"], (12, 18), strict=True)]
        lines.append(line + "".join(ratios) + _ratio(row["early"], 13))
    means = "".join(_ratio(value, width) for value, width in zip(report["summary"].values(), (12, 18), strict=True))
    return "\n".join([*lines, f"{'geometric mean':<40}{means}"])


def _ratio(value: float | None, width: int) -> str:
    return f"{'–' if value is None else f'{value:.3f}':>{width}}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning_gain", description="What tuning gives.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"as in benchmarks.latency; {', '.join(MODELS)}")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--minutes", type=float, default=10.0, help="of tuning for each model and number of threads")
    others = [name for name in CONTENDERS if name != TunedEdgeIR.name]
    parser.add_argument("--against", nargs="*", choices=others, default=["onnxruntime", "openvino", "mnn"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--records", type=Path, default=Path("tuning-gain.sqlite"))
    parser.add_argument("--json", type=Path, default=RESULTS / "tuning_gain.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
