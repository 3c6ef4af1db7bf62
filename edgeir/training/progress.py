"""Progress of a training run on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Show = Callable[[int, str], None]
"""Told the steps done, and a line of text."""


@contextmanager
def show_progress(shown: bool, total: int, done: int) -> Iterator[Show]:
    """A progress bar on standard error while the block runs; nothing if it is not to be shown."""
    if not shown:
        yield lambda steps, text: None
        return
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=total, completed=done)
        yield lambda steps, text: progress.update(task, completed=steps, description=text)
