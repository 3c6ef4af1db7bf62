"""Packed weights fetched into the cache some time before they are read.

    for o: for t: for k:  sums of tile t += x[t, k] * w[o, k]
    →
    for o: for t: for k:  prefetch w[o + 1, a part of it];  sums of tile t += x[t, k] * w[o, k]

In a network the weights of a layer come from beyond the second-level cache, once per run. The walk over one panel of
weights is too short for the prefetchers of the machine, which start anew at each page; so the tiles that use a panel
share the fetches of the next one, in the order of memory. (Where one tile uses a panel, the walk is bound by memory,
and fetching ahead gained nothing.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import StringImm, TensorLoad
from tvm.s_tir.stmt import SBlockRealize

from edgeir.schedules.analysis import nodes
from edgeir.schedules.task import Task
from edgeir.schedules.tir_types import AnyFunc, AnySchedule
from edgeir.targets.target import Target

LINE = 16
"""Floats of a cache line."""

_STEP, _TILES = "edgeir.prefetch_step", "edgeir.prefetch_tiles"
_READ, _KEEP, _DATA = 0, 3, 1  # arguments of LLVM's prefetch: not for writing, into all caches, not instructions


def prefetch_choices(
    task: Task, weight: int, tiles: int, panels: int, elements: int, target: Target
) -> Sequence[int | str | bool]:
    """Values of the knob "prefetch": whether to fetch, where that can do anything, else that nothing is fetched.

    Weights that the kernel decodes first are in a cache, and are no argument.

    Args:
        task: what is computed.
        weight: which operand are the weights.
        tiles: that use a panel, with the smallest tile.
        panels: of weights, with the narrowest tile.
        elements: floats of all panels.
        target: the machine.
    """
    stored = task.operands[weight].spec.dtype == "float32"
    return [False, True] if stored and worth_prefetch(tiles, panels, elements, target) else [False]


def worth_prefetch(tiles: int, panels: int, elements: int, target: Target) -> bool:
    """Whether fetching pays: for panels used by several tiles that do not all stay in the first-level cache.

    Args:
        tiles: that use a panel.
        panels: of weights.
        elements: floats of all panels.
        target: the machine.
    """
    return target.kind == "llvm" and tiles > 1 and panels > 1 and 4 * elements > target.l1_bytes


def mark_prefetch(schedule: AnySchedule, step: Any, tiles: Sequence[tuple[Any, int]]) -> None:
    """Has each iteration of the loop `step`, over the steps of a panel, fetch a part of the next panel.

    Args:
        schedule: where the loops are.
        step: the innermost loop of the reduction; all loops in it are over lanes and tiles in registers.
        tiles: the loops, outer first, over the tiles that use a panel, and how many iterations in a row use the same.
    """
    schedule.annotate(step, _STEP, 1)
    for loop, count in tiles:
        schedule.annotate(loop, _TILES, count)


def with_prefetch(func: AnyFunc, weight: int, outer: int, inner: int) -> AnyFunc:
    """The function with fetches in its marked loops, if there are any.

    Args:
        func: scheduled.
        weight: which argument are the weights, float32.
        outer: how many of its first axes count panels.
        inner: how many of its last axes are the lanes of a step.
    """
    buffer = func.params[weight]
    tiles = [node for node in nodes(func) if _is_marked(node)][::-1]
    if not tiles:
        return func

    def rewrite(loop: Any) -> Any:
        if _STEP in loop.annotations:
            body = tirx.SeqStmt([*_fetches(loop.body, buffer, tiles, outer, inner), loop.body])
            return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, {}, loop.step)
        if loop.kind == tirx.ForKind.PARALLEL and any(_is_marked(node) for node in nodes(loop)):
            return _as_function(loop, f"{func.attrs['global_symbol']}_piece", buffer)
        return loop

    return tvm_ffi.structural_map(func, ((tirx.For, rewrite),))


def _is_marked(node: Any) -> bool:
    return isinstance(node, tirx.For) and _TILES in node.annotations


def _as_function(loop: Any, name: str, buffer: Any) -> Any:
    """A parallel loop whose body is a function of its own.

    LLVM takes a fetch for a read. In the body of a parallel loop it does not know that the weights are not the sums,
    where TVM puts those on the heap, and stores all sums before each fetch: the networks took up to twice as long. The
    pointers that TVM passes to a function of its own are marked as not overlapping.
    """
    body = tirx.AttrStmt(tirx.IntImm("int32", 0), "compute_scope", StringImm(name), loop.body)
    whole = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, loop.annotations, loop.step)
    # After the function TVM's code generator goes on with its debug location, which LLVM rejects; a statement sets it.
    return tirx.SeqStmt([whole, _fetch(buffer, 0)])


def _fetch(buffer: Any, position: Any) -> Any:
    indices = [*[0] * (len(buffer.shape) - 1), position]
    address = tirx.call_intrin("handle", "tirx.address_of", tirx.BufferLoad(buffer, indices))
    return tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", address, _READ, _KEEP, _DATA))


def _fetches(body: Any, buffer: Any, tiles: Sequence[Any], outer: int, inner: int) -> list[Any]:
    indices, extents = _first_load(body, buffer), [int(extent) for extent in buffer.shape]
    rank = len(extents)
    panel = _flat(indices[:outer], extents[:outer])
    step = _flat(indices[outer : rank - inner], extents[outer : rank - inner])
    steps, lanes = math.prod(extents[outer : rank - inner]), math.prod(extents[rank - inner :])
    counts = [int(loop.annotations[_TILES]) for loop in tiles]
    tile = _flat([_counted(loop, count) for loop, count in zip(tiles, counts, strict=True)], counts)
    width = -(-lanes // math.prod(counts))
    start = (panel + 1) * (steps * lanes) + (tile * steps + step) * width
    return [_fetch(buffer, start + line * LINE) for line in range(-(-width // LINE))]


def _counted(loop: Any, count: int) -> Any:
    return loop.loop_var if int(loop.extent) == count else loop.loop_var % count


def _flat(indices: Sequence[Any], extents: Sequence[int]) -> Any:
    place: Any = 0
    for index, extent in zip(indices, extents, strict=True):
        place = place * extent + index
    return place


def _first_load(body: Any, buffer: Any) -> list[Any]:
    """Indices of the first element that the body reads of the buffer, in terms of the loops around it."""
    realize: Any = next(node for node in nodes(body) if isinstance(node, SBlockRealize))
    load: Any = next(
        node for node in nodes(realize.block.body) if isinstance(node, TensorLoad) and node.source.same_as(buffer)
    )
    inside = [node.loop_var for node in nodes(body) if isinstance(node, tirx.For)]
    values = [(axis.var, value) for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)]

    def bound(variable: Any) -> Any:
        return next((value for axis, value in values if variable.same_as(axis)), variable)

    def first(variable: Any) -> Any:
        return tirx.IntImm(variable.ty, 0) if any(variable.same_as(loop) for loop in inside) else variable

    return [
        tvm_ffi.structural_map(tvm_ffi.structural_map(index, ((tirx.Var, bound),)), ((tirx.Var, first),))
        for index in load.indices
    ]
