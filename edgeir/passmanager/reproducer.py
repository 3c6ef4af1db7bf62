"""Reproducers: a folder with the IR before a failing pass and the pipeline from there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, load_graph, save_graph

if TYPE_CHECKING:
    from edgeir.passmanager.pipeline import Pipeline

GRAPH_FILE, PIPELINE_FILE, ERROR_FILE, COMMAND_FILE = "before.edgeir", "pipeline.txt", "error.txt", "reproduce.sh"


def save_reproducer(graph: Graph, pipeline: Pipeline, error: str, folder: Path | str | None = None) -> Path:
    """Writes a reproducer; returns its folder.

    Args:
        graph: the IR before the failing pass.
        pipeline: the failing pass and those after it.
        error: what went wrong.
        folder: where; made if needed. A fresh temporary folder if None.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(tempfile.mkdtemp(prefix="edgeir-reproducer-")) if folder is None else Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    save_graph(graph, path / GRAPH_FILE)
    (path / PIPELINE_FILE).write_text(f"{pipeline}\n", encoding="utf-8")
    (path / ERROR_FILE).write_text(f"{error}\n", encoding="utf-8")
    (path / COMMAND_FILE).write_text('exec python -m edgeir.passmanager "$(dirname "$0")"\n', encoding="utf-8")
    return path


def load_reproducer(folder: Path | str) -> tuple[Graph, Pipeline]:
    """The graph and the pipeline of a reproducer.

    Raises:
        EdgeIRError: a file is missing or damaged.
    """
    from edgeir.passmanager.pipeline import Pipeline

    path = Path(folder)
    try:
        text = (path / PIPELINE_FILE).read_text(encoding="utf-8")
    except OSError as error:
        raise EdgeIRError("not a reproducer", where=str(path), expected=PIPELINE_FILE, got=str(error)) from None
    # The pipeline first: finding its passes also registers the operators that the graph's text names.
    pipeline = Pipeline(text.strip())
    return load_graph(path / GRAPH_FILE), pipeline
