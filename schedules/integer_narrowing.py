"""Stores of quantized results: several registers are packed into one, instead of one by one.

Marked is a loop whose steps write neighbouring vectors of the output (pixels of a blocked output, vectors of a matrix),
around other loops and around the loop over the lanes of a vector. Where the loops store `quantize` of something in
float32 to uint8, they first compute the floats of all steps, which stay in registers, and then pack those of up to
four steps at a time (`narrowing_intrinsics`). Everything else stays as it is, so that any loop may be marked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.s_tir.stmt import SBlock, SBlockRealize
from tvm.sym import Analyzer

from edgeir.schedules import analysis
from edgeir.schedules.narrowing_intrinsics import GROUPS, Narrowing, narrowing
from edgeir.schedules.register_tile import STACK_LIMIT
from edgeir.schedules.tir_types import AnyFunc, AnySchedule
from edgeir.targets.target import Target

NARROW = "edgeir.narrow"
"""Loop annotation: the steps of the loop write neighbouring vectors."""

_FLOATS = "narrowed"


def mark_narrowing(schedule: AnySchedule, loop: Any) -> None:
    """Marks a loop whose steps may write neighbouring vectors of the output. Below it are loops and one block."""
    schedule.annotate(loop, NARROW, 1)


def with_packed_stores(func: AnyFunc, target: Target, fit: bool = False) -> AnyFunc:
    """The function with its marked loops replaced where they store quantized floats, else as they are.

    Args:
        func: the scheduled function.
        target: the machine.
        fit: whether all floats that are quantized are known to be numbers within int32 (`Integers.floats_fit`).
    """

    def rewrite(loop: Any) -> Any:
        if NARROW not in loop.annotations:
            return loop
        annotations = {key: value for key, value in loop.annotations.items() if key != NARROW}
        plain = _loop(loop, loop.body, annotations or None)
        return _packed(plain, target, fit) or plain

    return tvm_ffi.structural_map(func, ((tirx.For, rewrite),))


@dataclass(frozen=True)
class _Store:
    """A nest of loops around one store: the marked loop first, the one over lanes last."""

    loops: tuple[Any, ...]
    predicate: Any
    buffer: Any
    indices: tuple[Any, ...]
    value: Any
    reads: tuple[Any, ...]
    name: str


def _packed(loop: Any, target: Target, fit: bool) -> Any:
    """The statement that takes the place of a marked loop; None where it does something else."""
    store = _store(loop)
    if store is None or str(store.buffer.dtype) != "uint8":
        return None
    quantized = quantized_float(store.value, fit)
    extents = [int(other.extent) for other in store.loops]
    way = narrowing(target, extents[-1])
    if quantized is None or way is None or not _neighbouring(store, extents[-1]):
        return None
    if math.prod(extents) * 4 >= STACK_LIMIT:
        return None
    value, zero = quantized
    floats: Any = tirx.decl_buffer(tuple(extents), "float32", _FLOATS)
    variables = [other.loop_var for other in store.loops]
    first = tirx.BufferStore(floats, value, variables)
    written = tirx.BufferRegion(floats, [_range(variable, 1) for variable in variables])
    statement: Any = _block(store.name + "_value", store.reads, [written], first, store.predicate)
    for other in reversed(store.loops):
        statement = _loop(other, statement, other.annotations)
    stores = [_group(store, floats, way, zero, start, count) for start, count in _groups(extents[0])]
    body = tirx.SeqStmt([statement, *(piece for group in stores for piece in group)])
    whole = tirx.BufferRegion(store.buffer, [_range(0, extent) for extent in store.buffer.shape])
    return _block(store.name, [], [whole], body, None, [floats])


def _store(loop: Any) -> _Store | None:
    loops, statement = [], loop
    while isinstance(statement, tirx.For):
        loops.append(statement)
        statement = statement.body
    if not isinstance(statement, SBlockRealize) or len(loops) < 2 or loops[-1].kind != tirx.ForKind.VECTORIZED:
        return None
    if not all(analysis.is_zero(other.min) and isinstance(other.extent, tirx.IntImm) for other in loops):
        return None
    block: Any = statement.block
    if not isinstance(block.body, tirx.BufferStore) or block.init is not None or block.alloc_buffers:
        return None
    axes = [axis.var for axis in block.iter_vars]
    bind = _substitution(axes, list(statement.iter_values))
    reads = []
    for region in block.reads:
        ranges = [_range(bind(r.min), bind(r.extent)) for r in region.region]
        reads.append(tirx.BufferRegion(region.source, ranges))
    indices = tuple(bind(index) for index in block.body.indices)
    return _Store(
        tuple(loops), statement.predicate, block.body.buffer, indices, bind(block.body.value), tuple(reads),
        str(block.name_hint),
    )  # fmt: skip


def quantized_float(value: Any, fit: bool = False) -> tuple[Any, int] | None:
    """(x, zero) of a uint8 value that is saturate(round_half_even(x) + zero); None of other values.

    The form is that of `rounded_narrow` (edgeir/lowering/compute/casting.py): x limited to −zero … 255 − zero, plus
    1.5·2^23, of whose bits the last 8 are the result. Left out are the addition, the lower limit, and the upper limit
    if x is known to fit int32.
    """
    if not isinstance(value, tirx.Cast) or _dtype(value) != "uint8":
        return None
    inner: Any = value
    bits: Any = inner.value
    added = 0
    if isinstance(bits, tirx.Add) and isinstance(bits.b, tirx.IntImm):
        added, bits = int(bits.b), bits.a
    if analysis.call_name(bits) != "reinterpret" or _dtype(bits) != "int32":
        return None
    call: Any = bits
    shifted: Any = call.args[0]
    if not isinstance(shifted, tirx.Add) or not isinstance(shifted.b, tirx.FloatImm):
        return None
    upper = _limit(shifted.a, above=True)
    lower = None if upper is None else _limit(upper[1], above=False)
    if upper is None or lower is None:
        return None
    zero = int(-lower[0])
    if not 0 <= zero <= 255 or (lower[0], upper[0]) != (-zero, 255 - zero) or shifted.b.value + added != _SHIFT + zero:
        return None
    x = lower[1]
    # A lower limit below that of the bytes changes nothing.
    while (further := _limit(x, above=False)) is not None and further[0] <= lower[0]:
        x = further[1]
    if fit:
        return x, zero
    greatest = tirx.const(upper[0], "float32")
    return tirx.Select(greatest < x, greatest, x), zero


_SHIFT = 3 << 22


def _dtype(expression: Any) -> str:
    return str(expression.ty.dtype)


def _limit(value: Any, above: bool) -> tuple[float, Any] | None:
    """(limit, x) of min(limit, x) or max(limit, x), which let NaN pass or make the limit of it."""
    if not isinstance(value, tirx.Select) or not isinstance(value.condition, (tirx.LT, tirx.GT)):
        return None
    a, b = value.condition.a, value.condition.b
    small, large = (a, b) if isinstance(value.condition, tirx.LT) else (b, a)
    # The smaller one of both is chosen where the condition holds: a minimum.
    chosen, other = value.true_value, value.false_value
    if not above:
        chosen, other = other, chosen
    same = tvm_ffi.structural_equal
    if same(small, chosen) and same(large, other):
        limit, x = chosen, other
    elif same(small, other) and same(large, chosen):
        return None
    else:
        return None
    if isinstance(x, tirx.FloatImm):
        limit, x = x, limit
    return (float(limit.value), x) if isinstance(limit, tirx.FloatImm) else None


def _neighbouring(store: _Store, lanes: int) -> bool:
    """Whether lanes are neighbours in memory, and steps of the marked loop follow one another."""

    def place(marked: int, lane: int) -> Any:
        moved = [store.loops[0].loop_var, store.loops[-1].loop_var]
        at = _substitution(moved, [moved[0] + marked, tirx.const(lane, "int32")])
        offset: Any = tirx.const(0, "int32")
        for index, extent in zip(store.indices, store.buffer.shape, strict=True):
            offset = offset * extent + at(index)
        return offset

    analyzer: Any = Analyzer()
    start = place(0, 0)
    ends = [(place(0, lanes - 1), lanes - 1), (place(1, 0), lanes)]
    return all(analyzer.can_prove_equal(end - start, distance) for end, distance in ends)


def _groups(extent: int) -> list[tuple[int, int]]:
    """(first step, steps) of the groups that are packed together."""
    groups, start = [], 0
    while start < extent:
        count = next(size for size in GROUPS if size <= extent - start)
        groups.append((start, count))
        start += count
    return groups


def _group(store: _Store, floats: Any, way: Narrowing, zero: int, start: int, count: int) -> list[Any]:
    """Stores of the results of some steps: together, or one by one where the last of them is outside the output."""
    marked, lane = store.loops[0].loop_var, store.loops[-1].loop_var
    inner = store.loops[1:-1]
    between = [other.loop_var for other in inner]
    one: Any = tirx.const(1, "int32")

    def vector(step: int) -> Any:
        lanes: Any = way.lanes
        at = [tirx.const(step, "int32"), *between, tirx.Ramp(tirx.const(0, "int32"), one, lanes)]
        return tirx.BufferLoad(floats, at)

    def stored(steps: Sequence[int], predicate: Any) -> Any:
        at = _substitution([marked, lane], [tirx.const(steps[0], "int32"), tirx.const(0, "int32")])
        *outer, last = (at(index) for index in store.indices)
        total: Any = way.lanes * len(steps)
        place = [*outer, tirx.Ramp(last, one, total)]
        body = tirx.BufferStore(store.buffer, way.compute([vector(step) for step in steps], zero), place)
        whole = tirx.BufferRegion(floats, [_range(0, extent) for extent in floats.shape])
        bytes_of = tirx.BufferRegion(store.buffer, [*(_range(i, 1) for i in outer), _range(last, total)])
        statement: Any = _block(store.name + "_bytes", [whole], [bytes_of], body, predicate)
        for other in reversed(inner):
            statement = _loop(other, statement, other.annotations)
        return statement

    steps = range(start, start + count)
    tests = [_substitution([marked], [tirx.const(step, "int32")])(store.predicate) for step in steps]
    if not analysis.uses(store.predicate, marked) or count == 1:
        return [stored(steps, tests[-1])]
    alone = [stored([step], tirx.all(test, tirx.Not(tests[-1]))) for step, test in zip(steps, tests, strict=True)]
    return [stored(steps, tests[-1]), *alone[:-1]]


def _substitution(variables: Sequence[Any], values: Sequence[Any]) -> Callable[[Any], Any]:
    def replace(variable: Any) -> Any:
        for other, value in zip(variables, values, strict=True):
            if variable.same_as(other):
                return value
        return variable

    return lambda expression: tvm_ffi.structural_map(expression, ((tirx.Var, replace),))


def _range(start: Any, extent: Any) -> Any:
    return Range.from_min_extent(start, extent)


def _loop(loop: Any, body: Any, annotations: Mapping[str, Any] | None) -> Any:
    return tirx.For(
        loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, annotations or None, loop.step
    )


def _block(
    name: str, reads: Sequence[Any], writes: Sequence[Any], body: Any, predicate: Any, buffers: Sequence[Any] = ()
) -> Any:
    test: Any = tirx.const(True, "bool") if predicate is None else predicate
    return SBlockRealize([], test, SBlock([], list(reads), list(writes), name, body, None, list(buffers)))
