"""The order of a graph's nodes: a linked list with labels, so that "which comes first" takes constant time."""

from __future__ import annotations

from collections.abc import Iterator

from edgeir.ir.values import Node

_GAP = 1 << 20


class NodeOrder:
    """A doubly linked list of nodes. Iterating while editing is safe."""

    def __init__(self) -> None:
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Node]:
        node = self._first
        while node is not None:
            yield node
            # A node erased meanwhile keeps its links, so the walk goes on from what followed it.
            node = node._next
            while node is not None and not node.is_alive:
                node = node._next

    def __reversed__(self) -> Iterator[Node]:
        node = self._last
        while node is not None:
            yield node
            node = node._previous
            while node is not None and not node.is_alive:
                node = node._previous

    def insert(self, node: Node, before: Node | None) -> None:
        """Puts a node before another, or last."""
        previous = self._last if before is None else before._previous
        node._previous, node._next = previous, before
        if previous is None:
            self._first = node
        else:
            previous._next = node
        if before is None:
            self._last = node
        else:
            before._previous = node
        self._count += 1
        if before is None:
            node._order = (previous._order if previous is not None else 0) + _GAP
        else:
            low = previous._order if previous is not None else before._order - 2 * _GAP
            node._order = (low + before._order) // 2
            if node._order <= low:
                self._renumber()

    def remove(self, node: Node) -> None:
        """Takes a node out; it keeps its own links."""
        if node._previous is None:
            self._first = node._next
        else:
            node._previous._next = node._next
        if node._next is None:
            self._last = node._previous
        else:
            node._next._previous = node._previous
        self._count -= 1

    def _renumber(self) -> None:
        for position, node in enumerate(self):
            node._order = position * _GAP
