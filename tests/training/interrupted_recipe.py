"""A recipe in processes that kill themselves; started by `test_recipes.py`.

    python interrupted_recipe.py FOLDER KILL…

A KILL is `step-N`: at the N-th training step of the process; `graph-N`: before the N-th graph is stored; `file-N`:
before the N-th file is put in its place. The last process runs to the end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Builder, Graph
from edgeir.training.fit_options import FitOptions
from edgeir.training.recipes import Distill, Recipe, RecipeData, Stage, Train, engine, run_recipe
from edgeir.training.run_state import Run


def network(hidden: int = 8) -> Graph:
    rng = np.random.default_rng(0)
    b = Builder("dense")
    x = b.input("x", "float32[N, 6]")
    h = b.relu(b.matmul(x, rng.normal(0, 0.5, (6, hidden)).astype(np.float32), name="first"), name="hidden")
    return b.outputs(y=b.matmul(h, rng.normal(0, 0.5, (hidden, 3)).astype(np.float32), name="last"))


def data() -> RecipeData:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 6)).astype(np.float32)
    y = (x @ rng.normal(size=(6, 3))).argmax(1)
    return RecipeData((x[:60], y[:60]), (x[60:], y[60:]))


def recipe(epochs: int = 2) -> Recipe:
    train = Train(FitOptions(epochs=2, batch_size=16, learning_rate=0.02))
    return Recipe(
        network(),
        (
            Stage("train", (), train),
            Stage("prune", ("prune-weights{ratio=0.3}", "prune-weights{ratio=0.6}"), train),
            Stage(
                "quantize",
                ("insert-qdq,quantize-weights{trainable=true}",),
                Train(FitOptions(epochs=epochs, batch_size=16, learning_rate=0.01), distill=Distill("prune")),
            ),
        ),
    )


def dying(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    calls = 0

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)

    return call


def main() -> None:
    torch.set_num_threads(1)
    folder, *kills = sys.argv[1:]
    for kill in (*kills, ""):
        child = os.fork()
        if not child:
            what, _, count = kill.partition("-")
            if what == "step":
                Run._step = dying(Run._step, int(count))
            if what == "graph":
                engine.save_graph = dying(engine.save_graph, int(count))
            if what == "file":
                os.replace = dying(os.replace, int(count))
            run_recipe(recipe(), data(), Path(folder))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status != (signal.SIGKILL if kill else 0):
            raise SystemExit(f"the process for {kill!r} ended with status {status}")


if __name__ == "__main__":
    main()
