"""What compression costs: a network like MobileNetV2 on Fashion-MNIST's test set, compressed in many ways.

    python -m benchmarks.compression_table [--seeds 0 1 2] [--network FILE.onnx] [--epochs-scale 1.0] [--images N]
        [--rows NAME…] [--data FOLDER] [--work FOLDER] [--json FILE]
    python -m benchmarks.compression_table --latency [--work FOLDER] [--json FILE]

The network of `examples.fashion_mnist` (0.2 M parameters) is read from a file, or trained; each row compresses it:
quantization after training and with training, logarithmic weights, channels and weights removed, students of a quarter
of its size, and the whole recipe, whose artifact is timed beside the float network in onnxruntime. What is trained
again learns from the labels and the float network's answers. The last 5,000 training images are left out of all of it:
settings were chosen by the accuracy on them, which is what is printed while it runs.

Every row is written to the JSON when it is finished; rows that are there already, with the same settings, are not
repeated, and a training that was killed goes on from its checkpoint. The same command in several processes shares the
rows among them. `--latency` times the artifacts that are there again, for when the machine is idle.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.compression_table_measure import Arrays, compare_latency
from benchmarks.compression_table_plan import AUGMENT, HELD_OUT, Plan
from benchmarks.compression_table_results import (
    add_row,
    change_row,
    claim,
    has_row,
    read_results,
    row_folder,
    settings_key,
)
from benchmarks.compression_table_rows import (
    CALIBRATION,
    DROP,
    METRIC_IMAGES,
    PLACEMENT,
    ROWS,
    UNTRAINED,
    Setting,
)
from benchmarks.latency import machine
from edgeir.compiler import load_model
from edgeir.export import export_model
from edgeir.ir import Graph, print_graph
from edgeir.targets import Target, lookup
from edgeir.training import GraphModule
from edgeir.training.augmentation import augmentation
from edgeir.training.fit import fit
from edgeir.training.open_batch import open_batch
from examples.fashion_mnist.data import DEBIAN_FOLDER, load_images
from examples.fashion_mnist.networks import mobile_network

RESULTS = Path(__file__).parent / "results" / "compression_table.json"
THREADS = 1
_PATIENCE = 10.0
"""Seconds between looks at what other processes are doing."""
LIMITS = {
    "QAT 4-bit weights": 0.5,
    "QAT log2 4-bit weights": 0.7,
    "pruned to 50 % MACs, gradient, longer": 0.5,
    "90 % sparse, iterative": 0.7,
    "full recipe": 1.0,
}
"""Points of accuracy that a row may lose."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(THREADS)
    target = lookup("host").with_cores(THREADS)
    if options.latency:
        _time_again(options.json, options.work, target)
    else:
        images = load_images(options.data)
        count = len(images.train[1])
        plan = Plan(options.epochs_scale, options.images or count - HELD_OUT)
        train = (images.train[0][: plan.images], images.train[1][: plan.images])
        held_out = (images.train[0][-HELD_OUT:], images.train[1][-HELD_OUT:])
        work = _Work(options, plan, train, held_out, images.test, target)
        pending: list[tuple[str | None, int]] = [(None, seed) for seed in options.seeds if options.network is None]
        pending += [(name, seed) for name in options.rows or ROWS for seed in options.seeds]
        while pending:
            finished = next((item for item in pending if work.do(*item)), None)
            if finished is not None:
                pending.remove(finished)
            else:
                time.sleep(_PATIENCE)
    print(table(read_results(options.json)["results"]))
    return 0


@dataclass
class _Work:
    """What all rows have in common."""

    options: argparse.Namespace
    plan: Plan
    train: Arrays
    held_out: Arrays
    test: Arrays
    target: Target

    def __post_init__(self) -> None:
        self.networks: dict[int, tuple[Graph, Path, str]] = {}
        self.header = {"format": 1, "machine": machine(), "threads": THREADS, "test_images": len(self.test[1])}

    def do(self, name: str | None, seed: int) -> bool:
        """Makes a row, or trains a seed's float network; false if another process is at it."""
        path = self._network_path(seed)
        if name is None or not path.exists():
            with claim(path.parent) as mine:
                if mine and not path.exists():
                    self._train_network(seed, path)
                return mine and name is None
        if seed not in self.networks:
            graph = open_batch(load_model(path))
            digest = hashlib.sha256(print_graph(graph).encode()).hexdigest()[:16]
            self.networks[seed] = (graph, path, digest)
        return self._row(name, seed)

    def _row(self, name: str, seed: int) -> bool:
        graph, model, network = self.networks[seed]
        settings = {
            "network": network,
            "given_network": self.options.network is not None,
            "train_images": len(self.train[1]),
            "calibration": CALIBRATION,
            "placement": PLACEMENT,
        }
        if name == "PTQ 4-bit weights, accuracy-driven":
            settings |= {"max_drop": DROP, "metric_images": METRIC_IMAGES}
        elif name not in UNTRAINED:
            settings |= {"training": self.plan.settings(name)}
        key = settings_key(settings)
        if has_row(self.options.json, key, seed, name):
            return True
        folder = row_folder(self.options.work, key, seed, name)
        with claim(folder) as mine:
            if not mine or has_row(self.options.json, key, seed, name):
                return mine
            start = time.monotonic()
            found = ROWS[name](
                Setting(graph, model, self.train, self.held_out, self.test, self.plan, self.target, seed, folder)
            )
            row = {"settings": key, "seed": seed, "row": name, **found, "seconds": time.monotonic() - start}
            add_row(self.options.json, self.header, key, settings, row)
        print(f"seed {seed}  {name:<36}{row['held_out']:7.2f} % held out{row['seconds']:8.0f} s", flush=True)
        return True

    def _network_path(self, seed: int) -> Path:
        if self.options.network is not None:
            return self.options.network
        plan = self.plan
        return self.options.work / f"float-{plan.scale}-{plan.images}-{plan.float_network}-{seed}" / "float.onnx"

    def _train_network(self, seed: int, path: Path) -> None:
        """The float network of a seed, from scratch."""
        module = GraphModule(mobile_network(seed=seed), batch_statistics=True)
        fit(
            *(module, self.train),
            options=self.plan.options(self.plan.float_network, len(self.train[1]), 4e-3, seed),
            augment=augmentation(AUGMENT),
            folder=path.parent / "training",
            progress=sys.stderr.isatty(),
            channels_last=True,
        )
        export_model(module.to_graph(), path)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Means over the seeds: accuracy in torch, the drop from the float network, and what was compiled.

    Rows that lose more than they may, by `LIMITS`, are marked.
    """
    lines = [
        f"{'':<36}{'seeds':>6}{'accuracy':>10}{'± dev.':>8}{'drop':>7}{'limit':>7}{'parameters':>12}{'nonzero':>9}"
        f"{'M MACs':>8}{'compiled':>10}{'KiB':>7}{'agree':>9}{'steps':>7}"
    ]
    floats = {row["seed"]: row["accuracy"] for row in results if row["row"] == "float"}
    for name in ROWS:
        rows = [row for row in results if row["row"] == name]
        if not rows:
            continue
        accuracies = [row["accuracy"] for row in rows]
        drops = [floats[row["seed"]] - row.get("compiled", row)["accuracy"] for row in rows if row["seed"] in floats]
        drop = statistics.mean(drops) if drops else None
        limit = LIMITS.get(name)
        deviation = f"{statistics.stdev(accuracies):.2f}" if len(rows) > 1 else ""
        line = f"{name:<36}{len(rows):>6}{statistics.mean(accuracies):>10.2f}{deviation:>8}"
        line += f"{'' if drop is None else f'{drop:.2f}':>7}{'' if limit is None else f'{limit:.1f}':>7}"
        last = rows[-1]
        line += f"{last['parameters']:>12,}{last['nonzero'] / last['parameters']:>9.0%}{last['macs'] / 1e6:>8.2f}"
        compiled = [row["compiled"] for row in rows if "compiled" in row]
        if compiled:
            means = {key: statistics.mean(item[key] for item in compiled) for key in compiled[0]}
            line += f"{means['accuracy']:>10.2f}{means['constant_bytes'] / 1024:>7.0f}"
            line += f"{means['agreement']:>9.2f}{means['mean_steps']:>7.2f}"
        misses = limit is not None and drop is not None and drop > limit
        lines.append(line + ("  misses its limit" if misses else ""))
        for row in rows:
            if "latency" in row:
                times = row["latency"]
                lines.append(
                    f"    seed {row['seed']}: {row['times_smaller']:.1f} times smaller; float in onnxruntime "
                    f"{times['onnxruntime_float_ms']:.3f} ms, here {times['edgeir_ms']:.3f} ms: "
                    f"{times['times_faster']:.1f} times faster"
                )
    return "\n".join(lines)


def _time_again(path: Path, work: Path, target: Target) -> None:
    """Times the artifacts of the whole recipe again, for a moment when the machine has nothing else to do."""
    for row in read_results(path)["results"]:
        if "latency" in row:
            folder = row_folder(work, row["settings"], row["seed"], row["row"])
            times = compare_latency(folder / "float.onnx", folder / "model.edgeir", target.cores)
            change_row(path, row["settings"], row["seed"], row["row"], {"latency": times})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.compression_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--network", type=Path, default=None, help="the float network; trained if not given")
    parser.add_argument("--epochs-scale", type=float, default=1.0, help="factor of all numbers of epochs")
    parser.add_argument("--images", type=int, default=None, help="train on the first so many images only")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="NAME", help=f"of {'; '.join(ROWS)}")
    parser.add_argument("--latency", action="store_true", help="only time the artifacts again")
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--work", type=Path, default=Path("compression-table.work"), help="checkpoints and artifacts")
    parser.add_argument("--json", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
