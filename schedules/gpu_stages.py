"""Binds stages of a function to the blocks and threads of a GPU, each stage a kernel of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.stmt import SBlockRealize

from edgeir.schedules import analysis, inlining
from edgeir.schedules.gpu_bit_casts import with_bit_casts
from edgeir.schedules.gpu_serial import bound_loop_nests, in_one_thread
from edgeir.schedules.simplify import simplified_indices
from edgeir.schedules.tir_types import AnyBlock, AnyFunc, AnySchedule
from edgeir.targets.target import Gpu, Target

_THREADS = 256
# A reduction of this many elements is worth the synchronization of the threads that share it.
_SHARED_REDUCTION = 64
# LowerCrossThreadReduction exchanges these through warp shuffles or shared memory.
_EXCHANGEABLE = ("float32", "float64", "int32", "int64")


def gpu_of(target: Target) -> Gpu:
    """The target's GPU; the target must have one."""
    assert target.gpu is not None
    return target.gpu


def block_threads(target: Target) -> int:
    """Threads of a block that works on independent elements."""
    return min(_THREADS, gpu_of(target).max_threads)


def schedule_for_gpu(func: AnyFunc, target: Target) -> AnyFunc:
    """The function with every stage bound to blocks and threads; never fails.

    Stages written as loop nests keep their order of execution: their parallel loops are spread over threads, the rest
    runs in one thread.
    """
    try:
        bound = bound_loop_nests(_bound_stages(simplified_indices(func), target), block_threads(target))
    except Exception:  # every schedule primitive raises its own types; a slow kernel is better than none
        bound = in_one_thread(func)
    # Last: a call of a function by name keeps TVM from computing a stage where it is read.
    return with_bit_casts(bound, target)


def _bound_stages(func: AnyFunc, target: Target) -> AnyFunc:
    if not _has_root(func):
        return func  # a single loop nest
    schedule: AnySchedule = Schedule(func)
    every = [schedule.get(block) for block in analysis.blocks(schedule)]
    if every and all(analysis.is_plain(block) for block in every):
        inlining.inline_injective(schedule)
    bind_stages(schedule, target, analysis.names(schedule))
    return schedule.mod["main"]


def _has_root(func: AnyFunc) -> bool:
    return isinstance(func.body, SBlockRealize) and func.body.block.name_hint == "root"


def bind_stages(schedule: AnySchedule, target: Target, names: Sequence[str]) -> None:
    """Binds the named stages, apart from loop nests.

    Raises:
        Exception: whatever TVM raises where a transformation does not apply.
    """
    done: set[str] = set()
    for name in names:
        block = schedule.get_sblock(name)
        if name in done or (not schedule.get(block).iter_vars and not analysis.is_plain(schedule.get(block))):
            continue
        if analysis.iterations(schedule, block) == 0:
            continue
        if not analysis.is_reduction(schedule.get(block)):
            bind_elements(schedule, schedule.get_loops(block), block, target)
            continue
        consumer = _pointwise_consumer(schedule, block)
        if consumer is not None:
            done.add(str(schedule.get(consumer).name_hint))
        _bind_reduction(schedule, block, consumer, target)


def bind_elements(schedule: AnySchedule, loops: list[Any], block: Any, target: Target) -> Any:
    """Spreads independent loops over blocks and threads. Returns the innermost loop, which is a thread's."""
    fused = schedule.fuse(*loops) if loops else _unit_loop(schedule, block)
    count = analysis.extent(schedule, fused)
    # TVM leaves out the bound of a stage without axes, so a single element must have a single thread.
    threads = 1 if count == 1 else min(block_threads(target), _power_of_two(count, gpu_of(target).warp))
    outer, inner = schedule.split(fused, factors=[None, threads])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    return inner


def _unit_loop(schedule: AnySchedule, block: Any) -> Any:
    """A loop of one step around everything that the block is in."""
    loops = schedule.get_loops(block)
    return schedule.add_unit_loop(loops[0] if loops else block)


def _power_of_two(count: int, least: int) -> int:
    """The smallest power of two that is no less than either number."""
    return max(least, 1 << max(0, count - 1).bit_length())


def _bind_reduction(schedule: AnySchedule, block: Any, consumer: Any, target: Target) -> None:
    body = schedule.get(block)
    kinds = analysis.loop_kinds(schedule, block)
    all_loops = list(schedule.get_loops(block))
    spatial = [loop for loop, kind in zip(all_loops, kinds, strict=True) if kind in ("spatial", "unused")]
    reduced = [loop for loop, kind in zip(all_loops, kinds, strict=True) if kind == "reduce"]
    schedule.reorder(*spatial, *reduced)
    outputs = math.prod(analysis.extent(schedule, loop) for loop in spatial)
    length = math.prod(analysis.extent(schedule, loop) for loop in reduced)
    resident = gpu_of(target).processors * 2048  # threads that the GPU holds at a time
    if length >= _SHARED_REDUCTION and outputs < resident and _exchangeable(body):
        _bind_row(schedule, block, spatial, reduced, length, target)
        if consumer is not None:
            bind_elements(schedule, schedule.get_loops(consumer), consumer, target)
        return
    if len(body.writes) == 1:
        # Registers hold the sum until it is whole: global memory would be written at every step.
        if consumer is None:
            consumer = schedule.cache_write(block, 0, "local")
        else:
            schedule.set_scope(block, 0, "local")
    thread = bind_elements(schedule, spatial, block, target)
    if consumer is not None:
        schedule.reverse_compute_at(consumer, thread)
    if reduced:
        schedule.decompose_reduction(block, schedule.get_loops(block)[2])


def _bind_row(
    schedule: AnySchedule, block: Any, spatial: list[Any], reduced: list[Any], length: int, target: Target
) -> None:
    """One block of threads for each output: the threads share the reduction and add up their parts."""
    row = schedule.fuse(*spatial) if spatial else _unit_loop(schedule, block)
    fused = schedule.fuse(*reduced)
    warp = gpu_of(target).warp
    threads = min(block_threads(target), _power_of_two(length, warp) // (2 if length > 2 * warp else 1))
    _, inner = schedule.split(fused, factors=[None, threads])
    schedule.bind(row, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")


def _exchangeable(block: AnyBlock) -> bool:
    """Whether the accumulation is one of TVM's own reducers on a type that threads can exchange."""
    if not analysis.is_plain(block):
        return False
    store = block.body
    if str(store.buffer.dtype) not in _EXCHANGEABLE:
        return False
    return isinstance(store.value, (tirx.Add, tirx.Mul, tirx.Max, tirx.Min))


def _pointwise_consumer(schedule: AnySchedule, block: Any) -> Any:
    """The only reader of a reduction's result, if it reads each element once, at its own position; else None."""
    body = schedule.get(block)
    if not analysis.is_plain(body) or analysis.is_output(schedule, block):
        return None
    readers = list(schedule.get_consumers(block))
    if len(readers) != 1 or len(schedule.get_producers(readers[0])) != 1:
        return None
    reader = schedule.get(readers[0])
    if not analysis.is_injective(reader):
        return None
    buffer = analysis.store(body).buffer
    axes = [axis.var for axis in reader.iter_vars]
    if len(axes) != len(buffer.shape):
        return None
    if tuple(map(int, buffer.shape)) != tuple(map(int, analysis.store(reader).buffer.shape)):
        return None
    for access in analysis.loads(reader):
        if access.buffer.same_as(buffer) and not _at_own_position(access, axes):
            return None
    return readers[0]


def _at_own_position(access: analysis.Access, axes: list[Any]) -> bool:
    return all(
        (isinstance(index, tirx.Var) and index.same_as(axis)) or (int(size) == 1 and analysis.is_zero(index))
        for index, axis, size in zip(access.indices, axes, access.buffer.shape, strict=True)
    )
