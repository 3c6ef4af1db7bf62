"""The loops of a scheduled kernel as plain numbers: extents, kinds, and what each statement touches at each depth.

Extents of index expressions are bounded from the loops inside a depth, those outside held still: a sum spans what its
terms span together, `i // c` a c-th of it, `i % c` at most c. Footprints follow from the spans of all dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlockRealize

from edgeir.schedules.analysis import call_name, element_bytes
from edgeir.schedules.tir_types import AnyBuffer, AnyFunc

LINE = 64
"""Bytes of a cache line."""

_KINDS = {
    int(tirx.ForKind.SERIAL): "serial",
    int(tirx.ForKind.PARALLEL): "parallel",
    int(tirx.ForKind.VECTORIZED): "vectorized",
    int(tirx.ForKind.UNROLLED): "unrolled",
}

Spans = tuple[int, ...]
"""For each depth, how many values an expression takes while the loops from that depth inwards run."""


@dataclass(frozen=True)
class Loop:
    """A loop around a statement.

    Attributes:
        extent: iterations.
        kind: `serial`, `parallel`, `vectorized`, `unrolled`, or `bound` to a GPU's threads.
    """

    extent: int
    kind: str


@dataclass(frozen=True)
class Access:
    """A buffer that a statement reads or writes.

    Attributes:
        buffer: number of the buffer in the kernel.
        bytes: of an element.
        spans: of each dimension.
        local: whether the kernel allocates it.
    """

    buffer: int
    bytes: int
    spans: tuple[Spans, ...]
    local: bool

    def footprint(self, depth: int) -> int:
        """Bytes touched while the loops from `depth` inwards run, in whole cache lines along the last dimension."""
        *outer, last = self.spans or ((1,) * (depth + 1),)
        run = last[depth] * self.bytes
        return math.prod(span[depth] for span in outer) * (-(-run // LINE) * LINE if outer else max(run, LINE))

    def depends(self, loop: int) -> bool:
        """Whether the element changes with that loop."""
        return any(span[loop] != span[loop + 1] for span in self.spans)

    def contiguous(self, loop: int) -> bool:
        """Whether that loop, a vector loop, walks neighbouring elements."""
        *outer, last = self.spans
        whole = last[loop] - last[loop + 1] + 1
        return whole > 1 and not any(span[loop] != span[loop + 1] for span in outer)


@dataclass(frozen=True)
class Statement:
    """An assignment, with the loops around it, outermost first.

    Attributes:
        loops: around it.
        store: what it writes.
        loads: what it reads, an entry for each occurrence.
        arithmetic: operations on values (not on indices); a product that is added counts as one.
        calls: of library functions.
    """

    loops: tuple[Loop, ...]
    store: Access
    loads: tuple[Access, ...]
    arithmetic: int
    calls: int

    @property
    def iterations(self) -> int:
        """How often it runs."""
        return math.prod(loop.extent for loop in self.loops)


@dataclass
class LoopNest:
    """A kernel's statements, and the bytes of the buffers that it allocates."""

    statements: list[Statement] = field(default_factory=list)
    allocated: int = 0


def loop_nest(func: AnyFunc) -> LoopNest:
    """The statements of a scheduled function, in order."""
    reader = _Reader()
    reader.statement(func.body, (), {})
    return reader.nest


class _Reader:
    def __init__(self) -> None:
        self.nest = LoopNest()
        self._buffers: list[Any] = []
        self._local: list[Any] = []

    def statement(self, node: Any, loops: tuple[Loop, ...], spans: dict[Any, Spans]) -> None:
        """Reads a statement; `spans` are those of the variables in scope."""
        if isinstance(node, tirx.SeqStmt):
            for part in node.seq:
                self.statement(part, loops, spans)
        elif isinstance(node, tirx.For):
            self._loop(node, loops, spans)
        elif isinstance(node, SBlockRealize):
            self._block(node, loops, spans)
        elif isinstance(node, tirx.BufferStore):
            self._store(node, loops, spans)
        elif isinstance(node, tirx.IfThenElse):
            self.statement(node.then_case, loops, spans)
            if node.else_case is not None:
                self.statement(node.else_case, loops, spans)
        elif getattr(node, "body", None) is not None:
            self.statement(node.body, loops, spans)

    def _loop(self, node: Any, loops: tuple[Loop, ...], spans: dict[Any, Spans]) -> None:
        extent = int(node.extent) if isinstance(node.extent, tirx.IntImm) else self._span(node.extent, spans)[0]
        loop = Loop(extent, _KINDS.get(int(node.kind), "bound"))
        inside = (extent,) * (len(loops) + 1)
        self.statement(node.body, (*loops, loop), {**spans, node.loop_var: inside})

    def _block(self, node: Any, loops: tuple[Loop, ...], spans: dict[Any, Spans]) -> None:
        block = node.block
        values = {
            axis.var: self._span(value, spans) for axis, value in zip(block.iter_vars, node.iter_values, strict=True)
        }
        for buffer in block.alloc_buffers:
            self._local.append(buffer)
            self.nest.allocated += math.prod(map(_extent, buffer.shape)) * element_bytes(str(buffer.dtype))
        if block.init is not None:
            self.statement(block.init, loops, {**spans, **values})
        self.statement(block.body, loops, {**spans, **values})

    def _store(self, node: Any, loops: tuple[Loop, ...], spans: dict[Any, Spans]) -> None:
        store = self._access(node.buffer, node.indices, len(loops), spans)
        count = _Count()
        self._value(node.value, len(loops), spans, count)
        self.nest.statements.append(Statement(loops, store, tuple(count.loads), count.arithmetic, count.calls))

    def _value(self, node: Any, depth: int, spans: dict[Any, Spans], count: _Count) -> None:
        """Counts the operations and loads of a value; parts that it shares count once."""
        if node in count.seen:
            return
        count.seen.add(node)
        if isinstance(node, TensorLoad):
            count.loads.append(self._access(node.source, node.indices, depth, spans))
            return
        if isinstance(node, Call):
            name = call_name(node)
            count.calls += name not in _CHEAP
            count.arithmetic += name in _CHEAP and name not in ("if_then_else", "likely")
            # What a choice tests is constant in most of a loop, which is cut where it changes.
            for argument in node.args[1:] if name == "if_then_else" else node.args:
                self._value(argument, depth, spans, count)
            return
        parts = [part for name in _PARTS if (part := getattr(node, name, None)) is not None]
        if isinstance(node, (tirx.Add, tirx.Sub)):
            # A product that is added is one operation with it.
            count.arithmetic += not any(isinstance(part, tirx.Mul) for part in parts)
        elif isinstance(node, _OPERATIONS):
            count.arithmetic += 1
        for part in parts:
            self._value(part, depth, spans, count)

    def _access(self, buffer: AnyBuffer, indices: Sequence[Any], depth: int, spans: dict[Any, Spans]) -> Access:
        dimensions = tuple(_padded(self._span(index, spans), depth + 1) for index in indices)
        local = any(buffer.same_as(other) for other in self._local)
        return Access(_number_of(self._buffers, buffer), element_bytes(str(buffer.dtype)), dimensions, local)

    def _span(self, node: Any, spans: dict[Any, Spans]) -> Spans:
        """For each depth, how many values an index takes; 1 beyond the tuple's end."""
        if isinstance(node, tirx.IntImm):
            return (1,)
        if isinstance(node, tirx.Var):
            return spans.get(node, (1,))
        if isinstance(node, (tirx.Add, tirx.Sub, tirx.Max, tirx.Min)):
            return _joined(self._span(node.a, spans), self._span(node.b, spans), lambda a, b: a + b - 1)
        if isinstance(node, tirx.Mul):
            left, right = node.a, node.b
            factor, other = (right, left) if isinstance(right, tirx.IntImm) else (left, right)
            step = abs(int(factor)) if isinstance(factor, tirx.IntImm) else 1
            return tuple(1 + step * (span - 1) for span in self._span(other, spans))
        if isinstance(node, (tirx.FloorDiv, tirx.FloorMod)):
            inner = self._span(node.a, spans)
            if not isinstance(node.b, tirx.IntImm):
                return inner
            by = max(1, int(node.b))
            quotient = isinstance(node, tirx.FloorDiv)
            return tuple(1 + (span - 1) // by if quotient else min(span, by) for span in inner)
        # A cast, a choice, a look-up: as many values as what it is made of.
        found: Spans = (1,)
        for name in _PARTS:
            if (part := getattr(node, name, None)) is not None:
                found = _joined(found, self._span(part, spans), max)
        for part in (*getattr(node, "args", ()), *getattr(node, "indices", ())):
            found = _joined(found, self._span(part, spans), max)
        return found


@dataclass
class _Count:
    loads: list[Access] = field(default_factory=list)
    arithmetic: int = 0
    calls: int = 0
    seen: set[Any] = field(default_factory=set)


_PARTS = ("a", "b", "value", "base", "condition", "true_value", "false_value")
_OPERATIONS = (tirx.Mul, tirx.Div, tirx.Max, tirx.Min, tirx.Select, tirx.Cast, tirx.FloorDiv, tirx.FloorMod)
_CHEAP = ("if_then_else", "likely", "reinterpret", "shift_left", "shift_right", "bitwise_and", "bitwise_or", "fma")


def _number_of(known: list[Any], item: Any) -> int:
    """The item's number among those known, added if it is new."""
    for number, other in enumerate(known):
        if other.same_as(item):
            return number
    known.append(item)
    return len(known) - 1


def _extent(value: Any) -> int:
    return int(value) if isinstance(value, tirx.IntImm) else 1


def _padded(spans: Spans, length: int) -> Spans:
    return (*spans, *(1,) * (length - len(spans)))


def _joined(a: Spans, b: Spans, join: Callable[[int, int], int]) -> Spans:
    length = max(len(a), len(b))
    return tuple(join(x, y) for x, y in zip(_padded(a, length), _padded(b, length), strict=True))
