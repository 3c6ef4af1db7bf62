"""Ragged loops: the last vector overlaps the one before it, so that no element is left to scalar code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir.stmt import SBlock, SBlockRealize

from edgeir.schedules import analysis
from edgeir.schedules.tir_types import AnyFunc, AnySchedule

PARTITION = "pragma_loop_partition_hint"
"""Loop annotation: TVM cuts the loop where the bounds test becomes true, so that only the tail is tested."""

OVERLAP = "edgeir.overlap"
"""Loop annotation, the length of the loop before it was split: see `overlap_tail`."""

LANE_BOUND = "edgeir.lane_bound"
"""Block annotation, the length and the width of a reduction that was cut into lanes: see `bound_lanes`."""


def partition_tail(schedule: AnySchedule, loop: Any) -> None:
    """Lets the loop run without bounds tests except in its last iteration."""
    if analysis.extent(schedule, loop) > 1:
        schedule.annotate(loop, PARTITION, 1)


def overlap_tail(schedule: AnySchedule, outer: Any, length: int) -> None:
    """Lets the last iteration of `outer` start early enough to be whole; it computes some elements again.

    Args:
        schedule: where the loop is.
        outer: the outer of two loops that came from splitting a loop of `length` iterations. Every block below it
            must give the same result when it runs again: it sets its output, or sets it before it accumulates.
        length: at least the extent of the inner loop.
    """
    schedule.annotate(outer, OVERLAP, length)


def bound_lanes(schedule: AnySchedule, partial: Any, length: int, width: int) -> None:
    """Remembers that the lanes of the last step of a reduction stick out.

    Args:
        schedule: where the block is.
        partial: the block of partial results that `rfactor` made; its axis 0 is the lane, its last one the step.
        length: how many elements are reduced.
        width: how many lanes there are.
    """
    schedule.annotate(partial, LANE_BOUND, [length, width])


def apply_lane_bounds(func: AnyFunc) -> AnyFunc:
    """Adds the bounds tests that `bound_lanes` asked for.

    Raises:
        ValueError: a block does not have the axes that `rfactor` gives.
    """

    def rewrite(realize: Any) -> Any:
        block = realize.block
        if LANE_BOUND not in block.annotations:
            return realize
        kinds = [int(axis.iter_type) for axis in block.iter_vars]
        if tirx.IterVar.CommReduce not in kinds:
            return realize  # the initialisation
        if (kinds[0], kinds[-1]) != (tirx.IterVar.DataPar, tirx.IterVar.CommReduce):
            raise ValueError(f"block {block.name_hint} has no lane axis")
        if block.init is not None:
            raise ValueError(f"block {block.name_hint} still initialises: a test would skip it")
        length, width = (int(value) for value in block.annotations[LANE_BOUND])
        step = realize.iter_values[len(kinds) - 1]
        inside = step * width + realize.iter_values[0] < length
        return SBlockRealize(realize.iter_values, tirx.all(realize.predicate, inside), block)

    return tvm_ffi.structural_map(func, ((SBlockRealize, rewrite),))


def apply_overlaps(func: AnyFunc) -> AnyFunc:
    """Carries out what `overlap_tail` asked for, and drops the bounds tests that it makes needless.

    A loop that may come to work in place keeps its tests instead: what it would compute again is no longer there.
    """
    arguments = list(func.params)

    def rewrite(loop: Any) -> Any:
        if OVERLAP not in loop.annotations:
            return loop
        length = int(loop.annotations[OVERLAP])
        rest: dict[str, Any] = {key: value for key, value in loop.annotations.items() if key != OVERLAP}
        body = None if _may_work_in_place(loop, arguments) else _shift_last(loop, length)
        if body is None:
            rest[PARTITION], body = 1, loop.body
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, rest or None, loop.step
        )

    return tvm_ffi.structural_map(func, ((tirx.For, rewrite),))


def _may_work_in_place(loop: Any, arguments: Sequence[Any]) -> bool:
    """Whether TVM's storage planning may give a block's result the memory of a temporary that the block reads."""

    def temporary(buffer: Any) -> bool:
        return not any(buffer.same_as(argument) for argument in arguments)

    found: list[Any] = [node for node in analysis.nodes(loop.body) if isinstance(node, SBlock)]
    blocks = [block for block in found if isinstance(block.body, tirx.BufferStore)]
    computed: list[Any] = [block.body.buffer for block in blocks]
    for block in blocks:
        written: Any = block.body.buffer
        if not temporary(written):
            continue
        for access in analysis.loads(block):
            read: Any = access.buffer
            # What the loop computes itself, it computes again.
            outside = temporary(read) and not any(read.same_as(buffer) for buffer in computed)
            if outside and str(read.dtype) == str(written.dtype) and access.indices and _same_axes(access, block):
                return True
    return False


def _same_axes(access: analysis.Access, block: Any) -> bool:
    """Whether the access uses exactly the axes by which the block writes."""
    written = list(block.body.indices)
    return all(
        any(analysis.uses(index, axis.var) for index in access.indices)
        == any(analysis.uses(index, axis.var) for index in written)
        for axis in block.iter_vars
        if not (isinstance(axis.dom.extent, tirx.IntImm) and int(axis.dom.extent) == 1)
    )


def _shift_last(loop: Any, length: int) -> tirx.Stmt | None:
    """The body with `outer * factor` held at `length - factor`; None where the loop is used in another way."""
    variable = loop.loop_var
    factors: set[int] = set()

    def clamp(product: Any) -> Any:
        if not (isinstance(product.a, tirx.Var) and product.a.same_as(variable) and isinstance(product.b, tirx.IntImm)):
            return product
        step: Any = product.b
        factor = int(step)
        factors.add(factor)
        return tirx.Min(placeholder * product.b, tirx.IntImm(step.ty, length - factor))

    placeholder = tirx.Var(variable.name, variable.ty)
    body = tvm_ffi.structural_map(loop.body, ((tirx.Mul, clamp),))
    if len(factors) != 1 or analysis.uses(body, variable) or length < max(factors):
        return None
    factor = factors.pop()
    if -(-length // factor) != int(loop.extent):
        return None

    def untested(realize: Any) -> Any:
        if not analysis.uses(realize.predicate, placeholder):
            return realize
        kept = [test for test in _conjuncts(realize.predicate) if not analysis.uses(test, placeholder)]
        predicate = tirx.all(*kept) if kept else tirx.const(True, "bool")
        return SBlockRealize(realize.iter_values, predicate, realize.block)

    body = tvm_ffi.structural_map(body, ((SBlockRealize, untested),))
    restore = {placeholder: variable}

    def back(node: Any) -> Any:
        return restore.get(node, node) if node.same_as(placeholder) else node

    return tvm_ffi.structural_map(body, ((tirx.Var, back),))


def _conjuncts(test: Any) -> list[Any]:
    if not isinstance(test, tirx.And):
        return [test]
    both: Any = test
    return [*_conjuncts(both.a), *_conjuncts(both.b)]
