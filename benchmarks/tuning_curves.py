"""What the cost model is worth: the best configuration so far against trials, on recorded measurements.

    python -m benchmarks.tuning_curves record MODEL.onnx TABLE.jsonl [--kernels 4] [--samples 200]
    python -m benchmarks.tuning_curves replay TABLE.jsonl [--output FILE.json] [--plot FILE.svg]

`record` measures a random sample of the configurations of the kernels that take the most time. `replay` lets each
strategy search among those configurations only, with several seeds; a measurement is looked up in the table. Each
kernel's curve is divided by the best in its table, and the mean over kernels is shown.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.line_plot import Line, line_plot
from edgeir.compiler import load_model
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import Target, lookup
from edgeir.tuning.cost_model import CostModel
from edgeir.tuning.features import feature_rows
from edgeir.tuning.measure import Candidate, ProcessMeasurer
from edgeir.tuning.problem import Problem
from edgeir.tuning.record import Record
from edgeir.tuning.records import RecordStore
from edgeir.tuning.search import STRATEGIES, Search
from edgeir.tuning.tasks import KernelTask, kernel_task, kernel_tasks
from edgeir.tuning.tuner import Tuner

SEEDS = range(5)
BATCH = 8


def record(model: Path, table: Path, kernels: int, samples: int) -> None:
    """Measures random configurations and writes them as lines of JSON."""
    target = lookup("host").with_cores(1)
    graph = load_model(model)
    default_pipeline(target).run(graph, PassContext(target=target))
    tasks = [task for task in kernel_tasks(graph, target) if task.size > samples]
    with (
        tempfile.TemporaryDirectory() as folder,
        RecordStore(Path(folder) / "records.sqlite") as store,
        ProcessMeasurer() as measurer,
    ):
        tuner = Tuner(tasks, store, measurer, strategy="random")
        tuner.run(trials=sum(len(task.templates) for task in tasks))
        store.prune(keep=1)
        chosen = sorted(tuner.progress, key=lambda item: -item.seconds)[:kernels]
        keep = {item.task.context.hash for item in chosen}
        for item in chosen:
            for _ in range(math.ceil(samples / 25)):
                store.add(measurer.measure(item.task, item.search.propose(25)))
        lines = [
            line for line, entry in zip(store.export(), store.records(), strict=True) if entry.context.hash in keep
        ]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


class TableSearch(Search):
    """A search whose space is the table: what is not in it counts as seen."""

    def __init__(self, task: KernelTask, seed: int, strategy: str, table: dict[tuple[str, str], Record]) -> None:
        super().__init__(task, seed, strategy, CostModel(seed))
        self._table = table

    def propose(self, count: int) -> list[Candidate]:
        """The best of the table by the strategy's own judgement."""
        rest = [Candidate(r.template, r.config) for key, r in sorted(self._table.items()) if key not in self._seen]
        self._random.shuffle(rest)
        if not self.measured or self.strategy == "random":
            chosen = rest[:count]
        else:
            drawn = max(1, count // 5)
            chosen = [*self._judged(rest)[: count - drawn]]
            chosen += [item for item in rest if item not in chosen][: count - len(chosen)]
        self._seen.update(item.key for item in chosen)
        return chosen

    def _judged(self, rest: Sequence[Candidate]) -> list[Candidate]:
        if self.strategy == "model":
            rows = feature_rows(self.task, [(item.template, item.config) for item in rest])
            scores = self.model.predict(self.task.context.kernel, rows)
            return [rest[i] for i in np.argsort(scores, kind="stable")]
        # Evolution without a model: nearest to one of the fastest, by the number of knobs that differ.
        elite = self._elite()[:3]
        return sorted(rest, key=lambda item: min(_distance(item, other) for other in elite))


def _distance(a: Candidate, b: Candidate) -> float:
    if a.template != b.template:
        return math.inf
    return sum(value != b.config.get(knob) for knob, value in a.config.items())


def replay(lines: Sequence[str]) -> dict[str, Any]:
    """Curves of every strategy: best so far relative to the table's best, per seed, mean over kernels."""
    with tempfile.TemporaryDirectory() as folder, RecordStore(Path(folder) / "records.sqlite") as store:
        store.import_lines(lines)
        tables = {context: store.records(context) for context, _ in store.contexts()}
    curves: dict[str, list[list[float]]] = {}
    trials = 0
    for strategy in STRATEGIES:
        for seed in SEEDS:
            kernels = []
            for context, records in tables.items():
                target = Target.from_dict({**context.target, "name": "recorded", "cores": context.threads})
                task = kernel_task(Problem.from_text(context.problem), target)
                table = {Candidate(r.template, r.config).key: r for r in records}
                kernels.append(_curve(TableSearch(task, seed, strategy, table), table))
            trials = min(map(len, kernels))
            curves.setdefault(strategy, []).append(np.mean([curve[:trials] for curve in kernels], axis=0).tolist())
    return {"kernels": len(tables), "trials": trials, "seeds": len(SEEDS), "curves": curves}


def _curve(search: TableSearch, table: dict[tuple[str, str], Record]) -> list[float]:
    best = min(entry.ratio for entry in table.values())
    curve: list[float] = []
    now = math.inf
    while candidates := search.propose(BATCH):
        records = [table[item.key] for item in candidates]
        search.learn(records)
        for entry in records:
            now = min(now, entry.ratio)
            # Before anything worked, as slow as what the model calls hopeless.
            curve.append(min(now, 16.0) / best)
    return curve


def plot(result: dict[str, Any], shown: int = 80) -> str:
    """The SVG text of the curves' means, with the range over seeds."""
    lines = {}
    for name, seeds in result["curves"].items():
        array = np.array(seeds)[:, 3:shown]
        lines[name] = Line(array.mean(0).tolist(), array.min(0).tolist(), array.max(0).tolist())
    return line_plot("Best so far, mean of 5 seeds", "trials, from the fourth", "time / best of the table", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    recorder = actions.add_parser("record")
    recorder.add_argument("model", type=Path)
    recorder.add_argument("table", type=Path)
    recorder.add_argument("--kernels", type=int, default=4)
    recorder.add_argument("--samples", type=int, default=200)
    player = actions.add_parser("replay")
    player.add_argument("table", type=Path)
    player.add_argument("--output", type=Path)
    player.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.action == "record":
        record(options.model, options.table, options.kernels, options.samples)
        return
    result = replay(options.table.read_text(encoding="utf-8").splitlines())
    for name, seeds in result["curves"].items():
        middle = np.mean(seeds, axis=0)
        points = ", ".join(f"{middle[i - 1]:.3f} after {i}" for i in (8, 16, 32, 64) if i <= len(middle))
        print(f"{name}: {points}")
    if options.output is not None:
        options.output.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if options.plot is not None:
        options.plot.write_text(plot(result), encoding="utf-8")


if __name__ == "__main__":
    main()
