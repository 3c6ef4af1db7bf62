"""Names of an ONNX graph and what they stand for."""

from __future__ import annotations

from collections.abc import Callable

from edgeir.errors import EdgeIRError
from edgeir.ir import Value


class Scope:
    """The values that nodes may read by name: those of one graph and, in a branch, of the graphs around it.

    Attributes:
        values: name → value; None for one that could not be computed.
        absent: formal inputs of a function that the call leaves out.
    """

    def __init__(self, parent: Scope | None = None, absent: set[str] | None = None) -> None:
        self.values: dict[str, Value | None] = {}
        self.absent: set[str] = absent or set()
        self._parent = parent
        self._pending: dict[str, Callable[[], Value]] = {}

    def declare(self, name: str, make: Callable[[], Value]) -> None:
        """Makes a name known whose value is made at first use.

        Raises:
            EdgeIRError: the name is taken.
        """
        if name in self._pending:
            raise EdgeIRError("two initializers have the same name", got=name)
        self._pending[name] = make

    def is_absent(self, name: str) -> bool:
        """Whether the name is a formal input without a value."""
        return name in self.absent or (self._parent is not None and self._parent.is_absent(name))

    def lookup(self, name: str) -> Value | None:
        """The value of a name; None if it could not be computed.

        Raises:
            EdgeIRError: nothing has that name.
        """
        if name in self.values:
            return self.values[name]
        if name in self._pending:
            self.values[name] = self._pending[name]()
            return self.values[name]
        if self._parent is not None:
            return self._parent.lookup(name)
        raise EdgeIRError("a node reads a value that nothing computes before it", got=repr(name))
