"""How much temporary memory a scheduled function allocates."""

from __future__ import annotations

import math

import tvm
from tvm import s_tir

from edgeir.schedules import analysis
from edgeir.schedules.tir_types import AnyBuffer, AnyFunc

_TO_BUFFERS = (
    s_tir.transform.CanonicalizeLoop(),
    s_tir.transform.LowerInitBlock(),
    s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
    s_tir.transform.ConvertBlocksToOpaque(),
    s_tir.transform.CompactBufferAllocation(),
)


def workspace_bytes(func: AnyFunc) -> int:
    """Bytes of all intermediate buffers of the function, compacted to what each loop nest needs at a time.

    Buffers that the code generator keeps in registers are counted too, and so are buffers that it would let share
    memory: an upper bound. 0 where nothing is allocated.
    """
    allocated = [b for block in _allocations(func) for b in block]
    if not allocated:
        return 0
    module = tvm.IRModule({"main": func})
    for transform in _TO_BUFFERS:
        module = transform(module)
    return sum(_bytes(buffer) for block in _allocations(module["main"]) for buffer in block)


def _allocations(func: AnyFunc) -> list[list[AnyBuffer]]:
    return [list(node.alloc_buffers) for node in analysis.nodes(func.body) if type(node).__name__ == "SBlock"]


def _bytes(buffer: AnyBuffer) -> int:
    try:
        elements = math.prod(int(dimension) for dimension in buffer.shape)
    except TypeError:
        return 0  # a data-dependent size
    return elements * analysis.element_bytes(str(buffer.dtype))
