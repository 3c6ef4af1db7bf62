"""Concatenations that need no kernel: their operands are written where they belong in the result.

    %a = fused(…)                               %a = a view of the first part of %c
    %b = fused(…)                      becomes  %b = a view of the rest
    %c = concat(%a, %b) {axis = 1}              (%c is there once both are written)

That works along the outermost axis that is not 1, where each operand is one piece of the result: channels of a batch of
one, plain or in blocks. It is done where kernels can write every operand there, and where it does not raise the peak of
the memory: a result exists from its first operand on, which may be long before the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeir.ir.graph import Graph, Node, Value
from edgeir.lowering.compute.registry import physical
from edgeir.lowering.views import is_view, value_bytes, viewed, views

ALIGNMENT = 64
"""Bytes to which kernels take their arguments to be aligned: TVM's default for buffers, and the widest vector."""


@dataclass(frozen=True)
class Part:
    """Where a value lies in another one.

    Attributes:
        whole: the other one, a concatenation; it may be a part itself.
        offset: bytes from its beginning.
    """

    whole: Value
    offset: int


def concatenated_in_place(graph: Graph) -> dict[Value, Part]:
    """Chooses the concatenations.

    Args:
        graph: fixed shapes, after all passes.

    Returns:
        Results of kernels that are written into a concatenation → where; a node whose result is the `whole` of a part
        needs no kernel.
    """
    parts: dict[Value, Part] = {}
    memory: _Memory | None = None
    for node in graph.nodes:
        offsets = _offsets(node)
        if offsets is None:
            continue
        sources = [viewed(value) for value in node.present_inputs]
        if len(set(sources)) < len(sources) or not all(_may_move(value, parts) for value in sources):
            continue
        memory = memory or _Memory(graph)
        if memory.merge(sources, node.outputs[0]):
            parts.update((v, Part(node.outputs[0], o)) for v, o in zip(sources, offsets, strict=True))
    return parts


def place(value: Value, parts: Mapping[Value, Part]) -> Part:
    """The value with memory of its own in which a value lies, through views and concatenations, and where."""
    offset = 0
    value = viewed(value)
    while value in parts:
        offset += parts[value].offset
        value = parts[value].whole
    return Part(value, offset)


def _may_move(value: Value, parts: Mapping[Value, Part]) -> bool:
    """Whether a kernel can write the value elsewhere; what the caller is given must have memory of its own."""
    return value.producer is not None and value not in parts and not any(view.is_output for view in views(value))


def _concat_axis(node: Node) -> int | None:
    """The axis of a node that concatenates its operands and does nothing else."""
    inner = node
    if node.op == "fused":
        body = node.attributes["body"]
        if len(body) != 1:
            return None
        (inner,) = body.nodes
        if tuple(inner.inputs) != tuple(body.inputs):
            return None
    return inner.attributes["axis"] if inner.op == "concat" else None


def _offsets(node: Node) -> list[int] | None:
    """Where operands begin in the result, in bytes; None where they are not pieces of it that kernels can write."""
    axis = _concat_axis(node)
    if axis is None:
        return None
    output, operands = node.outputs[0], node.present_inputs
    if (
        any(value.type.layout != output.type.layout for value in operands)
        or math.prod(physical(output.type)[:axis]) != 1
    ):
        return None
    # Blocks of channels are full: the IR allows no others in a concatenation.
    sizes = [value_bytes(value) for value in operands]
    offsets = [0, *itertools.accumulate(sizes[:-1])]
    return None if 0 in sizes or any(offset % ALIGNMENT for offset in offsets) else offsets


class _Memory:
    """Bytes alive at every node, with inputs and constants left out: what merging values does to the peak."""

    def __init__(self, graph: Graph) -> None:
        self._first: dict[Value, int] = {}
        self._last: dict[Value, int] = {}
        end = len(graph)
        for step, node in enumerate(graph.nodes):
            for value in node.present_inputs:
                self._last[viewed(value)] = step
            if not is_view(node):
                for value in node.outputs:
                    self._first[value] = self._last[value] = step
        for value in graph.outputs:
            self._last[viewed(value)] = end
        self._alive = np.zeros(end + 1, np.int64)
        for value in self._first:
            self._add(self._alive, value, 1)

    def _add(self, alive: np.ndarray, value: Value, sign: int) -> None:
        alive[self._first[value] : self._last[value] + 1] += sign * value_bytes(value)

    def merge(self, sources: list[Value], whole: Value) -> bool:
        """Puts values into another one, unless that raises the peak; returns whether it did."""
        alive = self._alive.copy()
        for value in (*sources, whole):
            self._add(alive, value, -1)
        first, last = self._first[whole], self._last[whole]
        self._first[whole] = min(self._first[value] for value in sources)
        self._last[whole] = max(self._last[value] for value in (*sources, whole))
        self._add(alive, whole, 1)
        if alive.max() > self._alive.max():
            self._first[whole], self._last[whole] = first, last
            return False
        self._alive = alive
        return True
