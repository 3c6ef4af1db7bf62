"""What compression costs: a network like MobileNetV2 on Fashion-MNIST's test set, compressed in many ways.

    python -m benchmarks.compression_table [--seeds 0 1 2] [--network FILE.onnx] [--epochs-scale 1.0] [--images N]
        [--rows NAME…] [--data FOLDER] [--work FOLDER] [--json FILE]

The network of `examples.fashion_mnist` (0.2 M parameters) is read from a file, or trained; each row compresses it:
quantization after training and with training, logarithmic weights, channels and weights removed, students of a quarter
of its size, and the whole recipe, whose artifact is timed beside the float network in onnxruntime. What is trained
again learns from the labels and the float network's answers. Every row is written to the JSON when it is finished; rows
that are there already, with the same settings, are not repeated, and a training that was killed goes on from its
checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.compression_table_plan import AUGMENT, Plan
from benchmarks.compression_table_rows import (
    CALIBRATION,
    DROP,
    OWN_SETTINGS,
    PLACEMENT,
    ROWS,
    UNTRAINED,
    Setting,
)
from benchmarks.latency import machine
from edgeir.compiler import load_model
from edgeir.export import export_model
from edgeir.ir import print_graph
from edgeir.targets import lookup
from edgeir.training import GraphModule
from edgeir.training.augmentation import augmentation
from edgeir.training.checkpoints import write_atomically
from edgeir.training.fit import fit
from edgeir.training.open_batch import open_batch
from examples.fashion_mnist.data import DEBIAN_FOLDER, load_images
from examples.fashion_mnist.networks import mobile_network

RESULTS = Path(__file__).parent / "results" / "compression_table.json"
THREADS = 1
LIMITS = {
    "QAT 4-bit weights": 0.5,
    "QAT log2 4-bit weights": 0.7,
    "pruned to 50 % MACs, l1": 0.5,
    "pruned to 50 % MACs, taylor": 0.5,
    "pruned to 50 % MACs, gradient": 0.5,
    "90 % sparse, iterative": 0.7,
    "full recipe": 1.0,
}
"""Points of accuracy that a row may lose."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(THREADS)
    images = load_images(options.data)
    plan = Plan(options.epochs_scale, options.images)
    train = (images.train[0][: plan.images], images.train[1][: plan.images])
    target = lookup("host").with_cores(THREADS)
    document = _read(options.json)
    document |= {"format": 1, "machine": machine(), "threads": THREADS, "test_images": len(images.test[1])}
    for seed in options.seeds:
        model = options.network or _trained_network(seed, plan, train, options.work)
        graph = open_batch(load_model(model))
        network = hashlib.sha256(print_graph(graph).encode()).hexdigest()[:16]
        common = {
            "network": network,
            "given_network": options.network is not None,
            "train_images": len(train[1]),
            "calibration": CALIBRATION,
            "placement": PLACEMENT,
            "max_drop": DROP,
        }
        for name in options.rows or ROWS:
            settings = dict(common) if name in UNTRAINED else {**common, "plan": plan.to_dict()}
            settings |= OWN_SETTINGS.get(name, {})
            key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
            if any((row["settings"], row["seed"], row["row"]) == (key, seed, name) for row in document["results"]):
                continue
            document.setdefault("settings", {})[key] = settings
            folder = options.work / f"{key}-{seed}" / "".join(c if c.isalnum() else "-" for c in name)
            folder.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            found = ROWS[name](Setting(graph, Path(model), train, images.test, plan, target, seed, folder))
            seconds = time.monotonic() - start
            document["results"].append({"settings": key, "seed": seed, "row": name, **found, "seconds": seconds})
            options.json.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(options.json, (json.dumps(document, indent=1) + "\n").encode())
            print(f"seed {seed}  {name:<36}{found['accuracy']:7.2f} %{seconds:8.0f} s", flush=True)
    print(table(document["results"]))
    return 0


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


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"results": []}


def _trained_network(seed: int, plan: Plan, train: tuple[Any, Any], work: Path) -> Path:
    """The float network of a seed, trained from scratch, or what was trained before."""
    folder = work / f"float-{plan.scale}-{len(train[1])}-{seed}"
    path = folder / "float.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        module = GraphModule(mobile_network(seed=seed), batch_statistics=True)
        fit(
            *(module, train),
            options=plan.options(plan.float_network, len(train[1]), 4e-3, seed),
            augment=augmentation(AUGMENT),
            folder=folder / "training",
            progress=True,
            channels_last=True,
        )
        export_model(module.to_graph(), path)
    return path


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
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--work", type=Path, default=Path("compression-table.work"), help="checkpoints and artifacts")
    parser.add_argument("--json", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
