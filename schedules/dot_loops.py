"""Replaces the marked innermost loops of a kernel by inner products of whole registers.

Marked is the loop over the lanes of a register of sums, around the loops over the bytes of a quad, and the loop that
sets those sums to 0. TVM's own `tensorize` does the same for blocks without bounds tests (apache-tvm 0.27); tiles at a
ragged edge have such tests, and a reader of only a few lanes makes TVM compute those lanes only. Here the tests stay
around the inner product, and whole registers are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlock, SBlockRealize

from edgeir.schedules import analysis
from edgeir.schedules.dot_intrinsics import DotProduct
from edgeir.schedules.tir_types import AnyFunc, AnySchedule

DOT = "edgeir.dot"
"""Loop annotation: the loop runs over the lanes of a register of sums."""


def mark(schedule: AnySchedule, loop: Any) -> None:
    """Marks the loop over lanes, of the sums or of what sets them to 0."""
    schedule.annotate(loop, DOT, 1)


def with_dot_products(func: AnyFunc, dot: DotProduct) -> AnyFunc:
    """The function with its marked loops replaced.

    The sums' last axis is the lanes. An addend is the product of an input, whose last index runs over the quad, and of
    weights whose last axes are one register as `DotProduct` describes it, or of a quad taken from a word of 32 bits.

    Raises:
        ValueError: a marked loop computes something else.
    """

    def rewrite(loop: Any) -> Any:
        if DOT not in loop.annotations:
            return loop
        variables, statement = [], loop
        while isinstance(statement, tirx.For):
            variables.append(statement.loop_var)
            statement = statement.body
        if not isinstance(statement, SBlockRealize):
            raise ValueError("a loop over lanes does not hold one block")

        def first(variable: Any) -> Any:
            inner = any(variable.same_as(other) for other in variables)
            return tirx.IntImm(variable.ty, 0) if inner else variable

        realize: Any = statement
        values = [tvm_ffi.structural_map(value, ((tirx.Var, first),)) for value in realize.iter_values]
        return SBlockRealize(values, realize.predicate, _whole_registers(realize.block, dot))

    return tvm_ffi.structural_map(func, ((tirx.For, rewrite),))


def _whole_registers(block: Any, dot: DotProduct) -> SBlock:
    store = block.body
    at = [*list(store.indices)[:-1], _ramp(0, dot.lanes)]
    loads: list[Any] = [node for node in analysis.nodes(store.value) if isinstance(node, TensorLoad)]
    written = _region(store.buffer, store.indices, 1)
    if not loads:
        count: Any = dot.lanes
        zeros = tirx.Broadcast(tirx.const(0, "int32"), count)
        return _block(block, [], written, tirx.BufferStore(store.buffer, zeros, at))
    inputs = [load for load in loads if not load.source.same_as(store.buffer)]
    weights = [load for load in inputs if _is_register(load, dot)]
    quads = [load for load in inputs if not _is_register(load, dot)]
    if len(loads) != 3 or len(weights) != 1 or len(quads) != 1:
        raise ValueError(f"block {block.name_hint} is no sum of products")
    x, w = quads[0], weights[0]
    axes = 3 if dot.halves else 2
    sums = tirx.BufferLoad(store.buffer, at)
    quad = tirx.BufferLoad(x.source, [*list(x.indices)[:-1], _ramp(x.indices[-1], dot.group)])
    if _is_words(w, dot):
        axes = 1
        words = tirx.BufferLoad(w.source, [*list(w.indices)[:-1], _ramp(0, dot.lanes)])
        register: Any = tirx.reinterpret(f"{dot.weight}x{dot.group * dot.lanes}", words)
    else:
        start = [tirx.const(0, "int32")] * (axes - 1)
        register = tirx.BufferLoad(w.source, [*list(w.indices)[:-axes], *start, _ramp(0, dot.group * dot.lanes)])
    value = dot.compute(sums, quad, register)
    reads = [*written, *_quad_region(x, dot), *_region(w.source, w.indices, axes)]
    return _block(block, reads, written, tirx.BufferStore(store.buffer, value, at))


def _is_register(load: Any, dot: DotProduct) -> bool:
    """Whether a load reads packed weights, whose last axes are one register."""
    if _is_words(load, dot):
        return True
    shape = [int(extent) for extent in load.source.shape]
    expected = [2, dot.lanes, dot.group // 2] if dot.halves else [dot.lanes, dot.group]
    return str(load.source.dtype) == dot.weight and shape[-len(expected) :] == expected


def _is_words(load: Any, dot: DotProduct) -> bool:
    """Whether a load reads words of one quad of weights each, whose last axis is one register."""
    whole = not dot.halves and int(load.source.shape[-1]) == dot.lanes
    return whole and str(load.source.dtype) == "int32" and dot.group * 8 == 32


def _ramp(start: Any, count: Any) -> Any:
    first = tirx.const(start, "int32") if isinstance(start, int) else start
    return tirx.Ramp(first, tirx.const(1, "int32"), count)


def _range(start: Any, extent: Any) -> Any:
    return Range.from_min_extent(start, extent)


def _region(buffer: Any, indices: Sequence[Any], whole: int) -> list[Any]:
    """The elements at `indices`, all of the last `whole` axes."""
    ranges = [_range(index, 1) for index in list(indices)[:-whole]]
    ranges += [_range(0, extent) for extent in list(buffer.shape)[-whole:]]
    return [tirx.BufferRegion(buffer, ranges)]


def _quad_region(load: Any, dot: DotProduct) -> list[Any]:
    *outer, last = load.indices
    ranges = [*[_range(index, 1) for index in outer], _range(last, dot.group)]
    return [tirx.BufferRegion(load.source, ranges)]


def _block(block: Any, reads: list[Any], writes: list[Any], body: Any) -> SBlock:
    return SBlock(
        block.iter_vars, reads, writes, block.name_hint, body, block.init, block.alloc_buffers, block.match_buffers,
        block.annotations,
    )  # fmt: skip
