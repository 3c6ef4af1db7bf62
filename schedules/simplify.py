"""Index expressions in their simplest form, so that contiguous accesses are recognised."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlock
from tvm.sym import Analyzer

from edgeir.schedules.tir_types import AnyBlock, AnyFunc


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


def _is_unit(domain: Range) -> bool:
    return isinstance(domain.extent, tirx.IntImm) and int(domain.extent) == 1
