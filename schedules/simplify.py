"""Index expressions in their simplest form, so that contiguous accesses are recognised."""

from __future__ import annotations

import math
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlock, SBlockRealize
from tvm.sym import Analyzer

from edgeir.schedules.analysis import nodes, uses
from edgeir.schedules.tir_types import AnyBlock, AnyFunc

LINEAR = "edgeir.linear"
"""Block annotation: so many of the last axes come from one fused loop, and every access walks them as one run."""


def simplified_indices(func: AnyFunc) -> AnyFunc:
    """The function with `i // c * c + i % c` as `i`, and axes of length 1 as 0 wherever another buffer is read."""

    def rewrite(block: AnyBlock) -> AnyBlock:
        if not isinstance(block.body, tirx.BufferStore):
            return block
        target = block.body.buffer
        units = [axis.var for axis in block.iter_vars if _is_unit(axis.dom)]
        analyzer = Analyzer()

        def zero(variable: Any) -> Any:
            return tirx.IntImm(variable.ty, 0) if any(variable.same_as(unit) for unit in units) else variable

        def index(expression: Any) -> Any:
            return analyzer.simplify(tvm_ffi.structural_map(expression, ((tirx.Var, zero),)))

        def load(access: Any) -> Any:
            if access.source.same_as(target):
                return access
            return tirx.BufferLoad(access.source, [index(i) for i in access.indices])

        def simple_region(region: Any) -> Any:
            ranges = [Range.from_min_extent(index(r.min), r.extent) for r in region.region]
            return type(region)(region.source, ranges, region.ty)

        value = tvm_ffi.structural_map(block.body.value, ((TensorLoad, load),))
        reads = [region if region.source.same_as(target) else simple_region(region) for region in block.reads]
        body = tirx.BufferStore(target, value, block.body.indices)
        return SBlock(
            block.iter_vars, reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers,
            block.match_buffers, block.annotations,
        )  # fmt: skip

    return tvm_ffi.structural_map(func, ((SBlock, rewrite),))


def linear_accesses(func: AnyFunc) -> AnyFunc:
    """The function with arguments read and written at `[…, 0, 0, e]` instead of `[…, e // bc, e % bc // c, e % c]`.

    For blocks marked `LINEAR`. Arguments are contiguous, so both are the same address; but where a vector straddles
    rows of `c` elements, TVM 0.27 does not put the quotients together again and gathers element by element.
    """
    arguments = list(func.params)

    def rewrite(realize: Any) -> Any:
        block = realize.block
        if LINEAR not in block.annotations or not isinstance(block.body, tirx.BufferStore):
            return realize
        count = int(block.annotations[LINEAR])
        last: Any = realize.iter_values[-1]
        if not isinstance(last, tirx.FloorMod):
            return realize  # whole vectors in each row: TVM simplifies that
        run: Any = last.a
        walked = block.iter_vars[-count:]
        axes = [axis.var for axis in walked]
        if any(uses(value, v) for value in realize.iter_values[:-count] for v in nodes(run) if isinstance(v, tirx.Var)):
            # The loop walks other axes as well, and so beyond the run of these.
            length = math.prod(int(axis.dom.extent) for axis in walked)
            run = tirx.floormod(run, tirx.IntImm(run.ty, length))

        def index(access: Any, indices: Any) -> list[Any] | None:
            tail = list(indices)[-count:]
            walks = len(tail) == count and all(
                isinstance(i, tirx.Var) and i.same_as(axis) for i, axis in zip(tail, axes, strict=True)
            )
            if not walks or not any(access.same_as(buffer) for buffer in arguments):
                return None
            return [*list(indices)[:-count], *[tirx.IntImm(run.ty, 0)] * (count - 1), run]

        def load(access: Any) -> Any:
            indices = index(access.source, access.indices)
            return access if indices is None else tirx.BufferLoad(access.source, indices)

        value = tvm_ffi.structural_map(block.body.value, ((TensorLoad, load),))
        written = index(block.body.buffer, block.body.indices)
        body = tirx.BufferStore(block.body.buffer, value, block.body.indices if written is None else written)
        changed = SBlock(
            block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers,
            block.match_buffers, block.annotations,
        )  # fmt: skip
        return SBlockRealize(realize.iter_values, realize.predicate, changed)

    return tvm_ffi.structural_map(func, ((SBlockRealize, rewrite),))


def _is_unit(domain: Range) -> bool:
    return isinstance(domain.extent, tirx.IntImm) and int(domain.extent) == 1
