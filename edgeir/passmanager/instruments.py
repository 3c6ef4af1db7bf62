"""What may be done around passes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, save_graph
from edgeir.passmanager.base import Pass

if TYPE_CHECKING:
    from edgeir.passmanager.report import PassRecord


class Instrument:
    """Called around a pipeline and its passes; override what is needed. It must not edit the graph."""

    def begin(self, graph: Graph) -> None:
        """Called once, before the first pass."""

    def before_pass(self, index: int, item: Pass, graph: Graph) -> None:
        """Called before each pass."""

    def after_pass(self, index: int, item: Pass, graph: Graph, record: PassRecord) -> None:
        """Called after each pass and its verification; may add to the record."""


@dataclass
class Dump(Instrument):
    """Writes the IR around passes: `03-fold-constants-before.edgeir`, `…-after.edgeir`.

    Attributes:
        folder: where; made if needed.
        passes: names of the passes; empty for all.
        before: whether to write the IR before a pass too.
        only_changes: whether to leave out the IR after a pass that changed nothing.
    """

    folder: Path | str
    passes: Collection[str] = ()
    before: bool = False
    only_changes: bool = False
    written: list[Path] = field(default_factory=list)

    def before_pass(self, index: int, item: Pass, graph: Graph) -> None:
        """Writes the IR, if asked for."""
        if self.before:
            self._write(index, item, graph, "before")

    def after_pass(self, index: int, item: Pass, graph: Graph, record: PassRecord) -> None:
        """Writes the IR."""
        if record.changed or not self.only_changes:
            self._write(index, item, graph, "after")

    def _write(self, index: int, item: Pass, graph: Graph, moment: str) -> None:
        if self.passes and item.name not in self.passes:
            return
        path = Path(self.folder) / f"{index:02d}-{item.name}-{moment}.edgeir"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_graph(graph, path)
        except OSError as error:
            raise EdgeIRError("cannot write an IR dump", where=str(path), got=str(error)) from None
        self.written.append(path)
