"""Proposing candidates for one kernel: the default, then evolution of the fastest, filtered by the cost model.

Everything random comes from one generator: the same seed and measurements give the same proposals.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median

import numpy as np

from edgeir.tuning.cost_model import CostModel
from edgeir.tuning.features import feature_rows, knob_rows
from edgeir.tuning.measure import Candidate
from edgeir.tuning.pruning import is_hopeless
from edgeir.tuning.record import NEVER_TRUSTED, Record
from edgeir.tuning.tasks import KernelTask

STRATEGIES = ("random", "evolutionary", "model")
ELITE = 12
POPULATION = 96
SCHEDULED = 32
"""Candidates of a batch's ranking that are scheduled, so that the model sees their loops."""

LEARNED = 16
"""The same for measurements that arrive together: a batch, or, of an earlier run, a part."""

GENERATIONS = 3
EXPLORED = 0.2
"""Share of a batch that is drawn at random once there are measurements."""

HOPELESS_TEMPLATE = 3.0
"""A template whose best candidate is this many times slower than the best of all is sampled no more."""

ATTEMPTS = 40

CONFIRMED = 4
"""Measurements of a configuration after which it may stay the best."""


class Search:
    """The search of one kernel.

    Args:
        task: the kernel.
        seed: of all choices.
        strategy: one of `STRATEGIES`; `evolutionary` goes without the model.
        model: shared between kernels, so that one learns from the other.
    """

    def __init__(self, task: KernelTask, seed: int, strategy: str = "model", model: CostModel | None = None) -> None:
        self.task = task
        self.strategy = strategy
        self.model = model if model is not None else CostModel(seed)
        self._random = random.Random(f"{seed} {task.context.hash}")
        self._seen: set[tuple[str, str]] = set()
        self._ratios: dict[tuple[str, str], list[float]] = {}
        self.measured: dict[tuple[str, str], tuple[Candidate, float]] = {}
        self._known_rows: dict[tuple[str, str], np.ndarray] = {}
        self.pruned = 0
        self.exhausted = False

    @property
    def default(self) -> Candidate:
        """What is used without tuning."""
        return Candidate(*self.task.default)

    @property
    def best(self) -> Candidate:
        """The fastest configuration by the median of its measurements; the default unless another was faster."""
        candidate, ratio = min(self.measured.values(), key=lambda pair: pair[1], default=(self.default, 1.0))
        return candidate if ratio < 1 else self.default

    @property
    def best_ratio(self) -> float:
        """Seconds of the fastest configuration by the default's; 1 before anything faster was found."""
        return min([1.0, *(ratio for _, ratio in self.measured.values())])

    @property
    def is_confirmed(self) -> bool:
        """Whether the best is the default, or was measured often enough: the fastest of many is partly luck."""
        return self.best_ratio >= 1 or len(self._ratios[self.best.key]) >= CONFIRMED

    def learn(self, records: Sequence[Record], *, teach: bool = True) -> None:
        """Takes measurements in; `teach` hands them to the model too, if it is used."""
        known = [record for record in records if record.template in self.task.spaces]
        for record in known:
            candidate = Candidate(record.template, dict(record.config))
            self._seen.add(candidate.key)
            ratios = self._ratios.setdefault(candidate.key, [])
            ratios.append(record.ratio)
            # A wrong result is never outvoted.
            wrong = record.error in NEVER_TRUSTED or math.isinf(self.measured.get(candidate.key, (candidate, 1.0))[1])
            self.measured[candidate.key] = (candidate, math.inf if wrong else median(ratios))
        if teach and known and self.strategy == "model":
            rows = feature_rows(self.task, [(record.template, record.config) for record in known], LEARNED)
            self.model.add(self.task.context.kernel, rows, [record.ratio for record in known])

    def propose(self, count: int) -> list[Candidate]:
        """Up to `count` candidates that were not proposed before; fewer when the space is used up."""
        chosen: list[Candidate] = []
        if not self._seen:
            for candidate in self._first():
                self._take(candidate, chosen)
        if not chosen and self.strategy != "random":
            # A model that knows nothing yet would rank by the alphabet.
            judged = self.strategy == "model" and self.model.is_trained
            ranked = self._evolved() if judged else self._offspring(count) if self.measured else []
            for candidate in ranked[: count - max(1, round(EXPLORED * count))]:
                self._take(candidate, chosen)
        chosen = chosen[:count]
        for _ in range(ATTEMPTS * count):
            if len(chosen) >= count:
                break
            if candidate := self._fresh(self._drawn()):
                self._take(candidate, chosen)
        self.exhausted = len(chosen) < count
        return chosen

    def _first(self) -> list[Candidate]:
        """What is measured before anything else: the default of every template."""
        defaults = [Candidate(t.name, t.default(self.task.task, self.task.target)) for t in self.task.templates]
        return [self.default, *defaults]

    def _take(self, candidate: Candidate, chosen: list[Candidate]) -> None:
        if candidate.key not in self._seen:
            self._seen.add(candidate.key)
            chosen.append(candidate)

    def _fresh(self, candidate: Candidate) -> Candidate | None:
        """The candidate, unless it was seen or cannot be good."""
        if candidate.key in self._seen:
            return None
        if is_hopeless(self.task, candidate.template, candidate.config):
            self.pruned += 1
            return None
        return candidate

    def _templates(self) -> list[str]:
        """Templates that are worth drawing from."""
        best: dict[str, float] = {}
        for candidate, ratio in self.measured.values():
            best[candidate.template] = min(best.get(candidate.template, math.inf), ratio)
        limit = HOPELESS_TEMPLATE * min(best.values(), default=math.inf)
        return [name for name in self.task.spaces if best.get(name, 0.0) <= limit] or list(self.task.spaces)

    def _drawn(self) -> Candidate:
        names = self._templates()
        sizes = [math.log2(1 + math.prod(len(values) for values in self.task.spaces[name].values())) for name in names]
        name = self._random.choices(names, sizes)[0]
        return Candidate(name, {k: self._random.choice(list(v)) for k, v in self.task.spaces[name].items()})

    def _elite(self) -> list[Candidate]:
        ranked = sorted(
            (pair for pair in self.measured.values() if not math.isinf(pair[1])),
            key=lambda pair: (pair[1], pair[0].key),
        )
        return [candidate for candidate, _ in ranked[:ELITE]] or [self.default]

    def _offspring(self, count: int) -> list[Candidate]:
        """Fresh mutants and crosses of the fastest."""
        parents = self._elite()
        found: dict[tuple[str, str], Candidate] = {}
        for _ in range(ATTEMPTS * count):
            if len(found) >= count:
                break
            child = self._child(self._parent(parents), parents)
            if self._fresh(child):
                found.setdefault(child.key, child)
        return list(found.values())

    def _parent(self, ranked: Sequence[Candidate]) -> Candidate:
        """One of the candidates; the first ones more often."""
        return ranked[min(int(self._random.expovariate(1 / 3)), len(ranked) - 1)]

    def _child(self, parent: Candidate, others: Sequence[Candidate]) -> Candidate:
        space = self.task.spaces.get(parent.template)
        if not space:
            return self._drawn()
        config = dict(parent.config)
        mates = [other for other in others if other.template == parent.template and other.key != parent.key]
        if mates and self._random.random() < 0.3:
            mate = self._random.choice(mates).config
            config = {knob: self._random.choice([value, mate[knob]]) for knob, value in sorted(config.items())}
        for _ in range(1 if self._random.random() < 0.7 else 2):
            knob = self._random.choice(sorted(space))
            values = list(space[knob])
            place = values.index(config[knob]) if config[knob] in values else 0
            if self._random.random() < 0.7 and len(values) > 2:
                place = max(0, min(len(values) - 1, place + self._random.choice((-2, -1, 1, 2))))
                config[knob] = values[place]
            else:
                config[knob] = self._random.choice(values)
        return Candidate(parent.template, config)

    def _evolved(self) -> list[Candidate]:
        """Fresh candidates, the fastest by the model first, after some generations under its judgement."""
        pool: dict[tuple[str, str], Candidate] = {}
        self._known_rows.clear()
        parents = self._elite()
        for _ in range(GENERATIONS):
            for candidate in self._offspring_of(parents, POPULATION // 2):
                pool.setdefault(candidate.key, candidate)
            for _ in range(POPULATION // 4):
                if candidate := self._fresh(self._drawn()):
                    pool.setdefault(candidate.key, candidate)
            ranked = self._ranked(list(pool.values()))
            if not ranked:
                return []
            parents = [*self._elite()[: ELITE // 2], *ranked[:ELITE]]
        return self._ranked_by_loops(self._ranked(list(pool.values())))

    def _offspring_of(self, parents: Sequence[Candidate], count: int) -> list[Candidate]:
        children = (self._child(self._parent(parents), parents) for _ in range(count))
        return [child for child in children if self._fresh(child)]

    def _ranked(self, candidates: list[Candidate]) -> list[Candidate]:
        """The fastest first, by what their knobs tell."""
        new = [item for item in candidates if item.key not in self._known_rows]
        rows = knob_rows(self.task, [(item.template, item.config) for item in new])
        self._known_rows.update((item.key, row) for item, row in zip(new, rows, strict=True))
        return self._sorted(candidates, np.array([self._known_rows[item.key] for item in candidates]))

    def _ranked_by_loops(self, ranked: list[Candidate]) -> list[Candidate]:
        """The first `SCHEDULED` of a ranking sorted anew by what their scheduled loops tell too, then the rest."""
        first = ranked[:SCHEDULED]
        rows = feature_rows(self.task, [(item.template, item.config) for item in first], SCHEDULED)
        return [*self._sorted(first, rows), *ranked[SCHEDULED:]]

    def _sorted(self, candidates: list[Candidate], rows: np.ndarray) -> list[Candidate]:
        scores = self.model.predict(self.task.context.kernel, rows)
        order = sorted(range(len(candidates)), key=lambda i: (float(scores[i]), candidates[i].key))
        return [candidates[i] for i in order]
