"""Ragged loops: the last vector overlaps the one before it, so that no element is left to scalar code."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.stmt import SBlockRealize

from edgeir.schedules import analysis

PARTITION = "pragma_loop_partition_hint"
"""Loop annotation: TVM cuts the loop where the bounds test becomes true, so that only the tail is tested."""

OVERLAP = "edgeir.overlap"
"""Loop annotation, the length of the loop before it was split: see `overlap_tail`."""


def partition_tail(schedule: Schedule, loop: Any) -> None:
    """Lets the loop run without bounds tests except in its last iteration."""
    if analysis.extent(schedule, loop) > 1:
        schedule.annotate(loop, PARTITION, 1)


def overlap_tail(schedule: Schedule, outer: Any, length: int) -> None:
    """Lets the last iteration of `outer` start early enough to be whole; it computes some elements again.

    Args:
        schedule: where the loop is.
        outer: the outer of two loops that came from splitting a loop of `length` iterations. Every block below it
            must give the same result when it runs again: it sets its output, or sets it before it accumulates.
        length: at least the extent of the inner loop.
    """
    schedule.annotate(outer, OVERLAP, length)


def apply_overlaps(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Carries out what `overlap_tail` asked for, and drops the bounds tests that it makes needless."""

    def rewrite(loop: tirx.For) -> tirx.For:
        if OVERLAP not in loop.annotations:
            return loop
        length = int(loop.annotations[OVERLAP])
        rest = {key: value for key, value in loop.annotations.items() if key != OVERLAP}
        body = _shift_last(loop, length)
        if body is None:
            rest[PARTITION], body = 1, loop.body
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, rest or None, loop.step
        )

    return tvm_ffi.structural_map(func, ((tirx.For, rewrite),))


def _shift_last(loop: tirx.For, length: int) -> tirx.Stmt | None:
    """The body with `outer * factor` held at `length - factor`; None where the loop is used in another way."""
    variable = loop.loop_var
    factors: set[int] = set()

    def clamp(product: tirx.Mul) -> Any:
        if not (isinstance(product.a, tirx.Var) and product.a.same_as(variable) and isinstance(product.b, tirx.IntImm)):
            return product
        factor = int(product.b)
        factors.add(factor)
        return tirx.Min(placeholder * product.b, tirx.IntImm(product.b.ty, length - factor))

    placeholder = tirx.Var(variable.name, variable.ty)
    body = tvm_ffi.structural_map(loop.body, ((tirx.Mul, clamp),))
    if len(factors) != 1 or analysis.uses(body, variable) or length < max(factors):
        return None
    factor = factors.pop()
    if -(-length // factor) != int(loop.extent):
        return None

    def untested(realize: SBlockRealize) -> SBlockRealize:
        if not analysis.uses(realize.predicate, placeholder):
            return realize
        kept = [test for test in _conjuncts(realize.predicate) if not analysis.uses(test, placeholder)]
        predicate = tirx.all(*kept) if kept else tirx.const(True, "bool")
        return SBlockRealize(realize.iter_values, predicate, realize.block)

    body = tvm_ffi.structural_map(body, ((SBlockRealize, untested),))
    restore = {placeholder: variable}

    def back(node: tirx.Var) -> tirx.Var:
        return restore.get(node, node) if node.same_as(placeholder) else node

    return tvm_ffi.structural_map(body, ((tirx.Var, back),))


def _conjuncts(test: Any) -> list[Any]:
    return [*_conjuncts(test.a), *_conjuncts(test.b)] if isinstance(test, tirx.And) else [test]
