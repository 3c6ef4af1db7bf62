"""What a pass is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from edgeir.ir import Graph
from edgeir.passmanager.context import PassContext


class Pass(ABC):
    """One transformation of a graph. Subclasses are frozen dataclasses; their fields are the options.

    Whether a pass changed anything is observed (`Graph.version`), never claimed.

    Class attributes:
        name: kebab-case, unique among all passes.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: Graph, context: PassContext) -> None:
        """Transforms the graph in place.

        Raises:
            EdgeIRError: the context lacks something that the pass needs; the message says what to supply.
        """

    def alternatives(self, graph: Graph, context: PassContext) -> tuple[Pass, ...]:
        """This pass with other options, whose kernels may be faster; tuning compares them by measured time.

        Args:
            graph: as the pass would get it; it stays as it is.
            context: as for `run`.
        """
        return ()

    def __str__(self) -> str:
        from edgeir.passmanager.options import print_pass

        return print_pass(self)
