"""What the cost model is worth: the best configuration so far against trials, on recorded measurements.

    python -m benchmarks.tuning_curves record TABLE.jsonl MODEL.onnx… [--kernels 3] [--samples 200] [--seconds S]
    python -m benchmarks.tuning_curves replay TABLE.jsonl [--output FILE.json] [--plot FILE.svg]

`record` measures a random sample of the configurations of the kernels that take the most time, of each kind. `replay`
lets each strategy search among those configurations only, with several seeds; a measurement is looked up in the table.
Each kernel's curve is divided by the best in its table, and the mean over kernels is shown. Tables may be compressed
(`.jsonl.gz`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import IO, Any, cast

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
from edgeir.tuning.tuner import Progress, Tuner

SEEDS = range(5)
COLD = "model, nothing transferred"
BATCH = 8
KIND = "x86-64-v4"
ROUND = 20
"""Measurements of one kernel before the next one's turn."""


def record(models: Sequence[Path], table: Path, kernels: int, samples: int, seconds: float) -> None:
    """Measures random configurations of each kind of kernel and appends them as lines of JSON.

    Args:
        models: the networks; each kernel of a network that has enough configurations is a candidate.
        table: the file.
        kernels: how many are kept of those with the same default template, those that take the most time first.
        samples: configurations of each kernel, the defaults of its templates included.
        seconds: time after which the sample is left as it is.
    """
    end = time.monotonic() + seconds
    target = lookup("host").with_cores(1)
    tasks = []
    for model in models:
        graph = load_model(model)
        default_pipeline(target).run(graph, PassContext(target=target))
        tasks += [task for task in kernel_tasks(graph, target) if task.size > samples]
    with (
        tempfile.TemporaryDirectory() as folder,
        RecordStore(Path(folder) / "records.sqlite") as store,
        ProcessMeasurer() as measurer,
    ):
        tuner = Tuner(tasks, store, measurer, strategy="random")
        tuner.run(trials=sum(len(task.templates) for task in tasks))
        kinds: dict[str, list[Progress]] = {}
        for item in sorted(tuner.progress, key=lambda item: -item.seconds):
            kinds.setdefault(item.task.default[0], []).append(item)
        chosen = [item for items in kinds.values() for item in items[:kernels]]
        # In turns, so that all have about as many when the time is up.
        while time.monotonic() < end and (open_ := [item for item in chosen if item.trials < samples]):
            for item in open_:
                records = measurer.measure(item.task, item.search.propose(min(ROUND, samples - item.trials)))
                store.add(records)
                item.take(records)
        keep = {item.task.context.hash for item in chosen}
        lines = [
            line for line, entry in zip(store.export(), store.records(), strict=True) if entry.context.hash in keep
        ]
    with opened(table, "at") as file:
        file.writelines(f"{line}\n" for line in lines)


def opened(table: Path, mode: str) -> IO[str]:
    """The file of a table as text; compressed if its name ends in `.gz`."""
    return cast(IO[str], gzip.open(table, mode, encoding="utf-8") if table.suffix == ".gz" else table.open(mode))


class TableSearch(Search):
    """The search among the configurations of a table: moves end at the nearest one that was not measured yet.

    All strategies know the default in earnest; here it is not told to any, so that what they find is their own.
    """

    def __init__(
        self, task: KernelTask, seed: int, strategy: str, table: Sequence[Record], model: CostModel | None = None
    ) -> None:
        super().__init__(task, seed, strategy, model)
        self._records = {Candidate(r.template, r.config).key: r for r in table}
        self._table: dict[str, list[Candidate]] = {}
        for key in sorted(self._records):
            entry = self._records[key]
            self._table.setdefault(entry.template, []).append(Candidate(entry.template, entry.config))
        self._keys = {name: [item.key for item in items] for name, items in self._table.items()}
        self._places = {
            name: np.array([self._place(item) for item in items]).reshape(len(items), -1)
            for name, items in self._table.items()
        }

    def measure(self, candidates: Sequence[Candidate]) -> list[Record]:
        """What the table says of them."""
        return [self._records[item.key] for item in candidates]

    def _first(self) -> list[Candidate]:
        return []

    def _elite(self) -> list[Candidate]:
        return super()._elite() if self.measured else [self._drawn()]

    def _templates(self) -> list[str]:
        return [name for name in super()._templates() if self._rest(name)] or list(self._table)

    def _rest(self, template: str) -> list[int]:
        """Numbers of a template's configurations that were not measured."""
        return [i for i, key in enumerate(self._keys.get(template, ())) if key not in self._seen]

    def _drawn(self) -> Candidate:
        items = self._table[super()._drawn().template]
        return items[self._random.choice(self._rest(items[0].template) or range(len(items)))]

    def _child(self, parent: Candidate, others: Sequence[Candidate]) -> Candidate:
        child = super()._child(parent, others)
        rest = self._rest(child.template)
        if not rest:
            return child if child.key in self._seen else self._drawn()
        steps = np.abs(self._places[child.template][rest] - self._place(child)).sum(axis=1)
        return self._table[child.template][rest[int(np.argmin(steps))]]

    def _place(self, item: Candidate) -> np.ndarray:
        """The knobs as numbers of their values: what lies one step apart differs by 1."""
        space = self.task.spaces[item.template]
        return np.array([list(values).index(item.config[knob]) for knob, values in sorted(space.items())])


@dataclass(frozen=True)
class Table:
    """What was measured of one kernel.

    Attributes:
        task: the kernel.
        records: one for each configuration, of the fastest measurement; the yardstick is the median of all, for the
            single one may have been disturbed.
    """

    task: KernelTask
    records: tuple[Record, ...]


def tables(lines: Sequence[str]) -> list[Table]:
    """The kernels of a recorded table.

    Raises:
        EdgeIRError: a line is no record.
    """
    with tempfile.TemporaryDirectory() as folder, RecordStore(Path(folder) / "records.sqlite") as store:
        store.import_lines(lines)
        contexts = [(context, store.records(context)) for context, _ in store.contexts()]
    found = []
    for context, records in contexts:
        # What is said of targets since the table was recorded is taken from a machine of the same kind.
        known = lookup(KIND).to_dict()
        said = {name: value for name, value in context.target.items() if name in known}
        target = Target.from_dict({**known, **said, "name": "recorded", "cores": context.threads})
        task = kernel_task(Problem.from_text(context.problem), target)
        yardstick = median(record.yardstick for record in records if record.yardstick)
        best: dict[tuple[str, str], Record] = {}
        for record in sorted(records, key=lambda r: r.minimum or math.inf):
            if record.template in task.spaces:
                best.setdefault(Candidate(record.template, record.config).key, replace(record, yardstick=yardstick))
        found.append(Table(task, tuple(best.values())))
    return found


def replay(lines: Sequence[str], trials: int = 80, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Curves of every strategy: best so far relative to the table's best, per seed, mean over kernels.

    The model knows the other kernels of the table before it starts, as it would from the store of records; `model,
    nothing transferred` starts without.
    """
    found = tables(lines)
    rows = [feature_rows(t.task, [(r.template, r.config) for r in t.records]) for t in found]
    curves: dict[str, list[list[float]]] = {}
    for name in (*STRATEGIES, COLD):
        for seed in seeds:
            kernels = []
            for table in found:
                model = CostModel(seed)
                if name == "model":
                    for other, other_rows in zip(found, rows, strict=True):
                        if other is not table:
                            ratios = [record.ratio for record in other.records]
                            model.add(other.task.context.kernel, other_rows, ratios)
                search = TableSearch(table.task, seed, name.partition(",")[0], table.records, model)
                kernels.append(_curve(search, table, trials))
            curves.setdefault(name, []).append(np.mean(kernels, axis=0).tolist())
            print(f"{name}, seed {seed}: {_points(curves[name][-1])}", flush=True)
    return {"kernels": [_described(table) for table in found], "trials": trials, "seeds": len(seeds), "curves": curves}


def _described(table: Table) -> dict[str, Any]:
    """The kernel's default template, how many configurations there are, and the default's time by the best's."""
    default = 1 / min(record.ratio for record in table.records)
    return {"template": table.task.default[0], "configurations": len(table.records), "default_by_best": default}


def _curve(search: TableSearch, table: Table, trials: int) -> list[float]:
    best = min(entry.ratio for entry in table.records)
    curve: list[float] = []
    now = math.inf
    while len(curve) < trials and (candidates := search.propose(min(BATCH, trials - len(curve)))):
        records = search.measure(candidates)
        search.learn(records)
        for entry in records:
            now = min(now, entry.ratio)
            # Before anything worked, as slow as what the model calls hopeless.
            curve.append(min(now, 16.0) / best)
    return curve + [curve[-1]] * (trials - len(curve))


def _points(curve: Sequence[float]) -> str:
    return ", ".join(f"{curve[i - 1]:.4f} after {i}" for i in (10, 20, 40, 80) if i <= len(curve))


CUT = 1.1
"""Where the plot ends: what is this much slower than the best is drawn at its upper edge."""


def plot(result: dict[str, Any]) -> str:
    """The SVG text of the curves' means, with the range over seeds."""
    lines = {}
    for name, seeds in result["curves"].items():
        array = np.array(seeds)
        shown = [np.minimum(part, CUT).tolist() for part in (array.mean(0), array.min(0), array.max(0))]
        lines[name] = Line(*shown)
    title = f"Best so far, mean of {result['seeds']} seeds and {len(result['kernels'])} kernels"
    return line_plot(title, "trials", f"time / best of the table (cut at {CUT:g})", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    recorder = actions.add_parser("record")
    recorder.add_argument("table", type=Path)
    recorder.add_argument("models", type=Path, nargs="+")
    recorder.add_argument("--kernels", type=int, default=3)
    recorder.add_argument("--samples", type=int, default=200)
    recorder.add_argument("--seconds", type=float, default=math.inf)
    player = actions.add_parser("replay")
    player.add_argument("table", type=Path)
    player.add_argument("--output", type=Path)
    player.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.action == "record":
        record(options.models, options.table, options.kernels, options.samples, options.seconds)
        return
    with opened(options.table, "rt") as file:
        result = replay(file.read().splitlines())
    for name, seeds in result["curves"].items():
        print(f"{name}: {_points(np.mean(seeds, axis=0).tolist())}")
    if options.output is not None:
        options.output.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if options.plot is not None:
        options.plot.write_text(plot(result), encoding="utf-8")


if __name__ == "__main__":
    main()
