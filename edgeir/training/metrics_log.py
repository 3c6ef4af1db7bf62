"""The metrics of a run as JSON lines, one object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.training.checkpoints import write_atomically


class MetricsLog:
    """Appends rows to a file; without a path, keeps count only.

    Args:
        path: the file.
        keep: rows to keep of an earlier run that is continued; rows after them, and a torn last line, are dropped,
            because the run computes them again.
    """

    def __init__(self, path: Path | None, keep: int = 0) -> None:
        self.path = path
        self.rows = keep
        if path is not None:
            lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
            if len(lines) < keep:
                raise EdgeIRError("the metrics log is shorter than its checkpoint", where=str(path), expected=keep)
            write_atomically(path, b"".join(lines[:keep]))

    def append(self, row: dict[str, Any]) -> None:
        """Writes one row."""
        self.rows += 1
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a log; a torn last line is left out.

    Raises:
        EdgeIRError: a line is no JSON.
    """
    rows = []
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise EdgeIRError("not a metrics log", where=f"{path}, line {number}", got=str(error)) from None
    return rows
