"""Stages and schedule steps that the convolution templates share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from edgeir.errors import EdgeIRError
from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.loops import worth_threads
from edgeir.schedules.task import Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyFunc
from edgeir.targets.target import Target

TirSchedule: TypeAlias = Any
"""A `tvm.s_tir.Schedule`, whose annotations are wrong for variadic arguments."""

PAD = "conv_pad"
ACCUMULATE = "conv_accumulate"
RESULT = "conv_result"


def stage(shape: Sequence[int], element: Callable[..., Any], name: str) -> te.Tensor:
    """A TE stage with one output."""
    tensor = te.compute(tuple(shape), element, name=name)
    assert isinstance(tensor, te.Tensor)
    return tensor


def reduce_axis(extent: int, name: str) -> Any:
    """A TE reduction axis from 0, usable in index arithmetic."""
    return te.reduce_axis((0, extent), name=name)


def loop_extent(schedule: TirSchedule, loop: LoopRV) -> int:
    """The constant extent of a loop."""
    node: Any = schedule.get(loop)
    return int(node.extent)


def check_config(name: str, config: Config, space: Mapping[str, Sequence[int | str | bool]]) -> None:
    """Raises `EdgeIRError` unless `config` has exactly the knobs of `space`, each with one of its values."""
    if set(config) != set(space):
        raise EdgeIRError("wrong knobs", where=name, expected=sorted(space), got=sorted(config))
    for knob, values in space.items():
        if config[knob] not in values:
            raise EdgeIRError(
                f"knob `{knob}` is outside its space", where=name, expected=list(values), got=config[knob]
            )


def zero_padded(x: te.Tensor, problem: ConvProblem, first_spatial: int = 2) -> te.Tensor:
    """The input with its zeros around each spatial axis, cut to what the outputs read."""
    if not problem.padded:
        return x
    rank = problem.rank
    shape = static_shape(x)
    for axis in range(rank):
        shape[first_spatial + axis] = problem.padded_extent(axis)

    def element(*index: Any) -> Any:
        inside, position = [], list(index)
        for axis in range(rank):
            place = first_spatial + axis
            begin, extent = problem.pads_begin[axis], problem.in_spatial[axis]
            position[place] = index[place] - begin
            if begin:
                inside.append(tirx.likely(index[place] >= begin))
            if problem.padded_extent(axis) > begin + extent:
                inside.append(tirx.likely(index[place] < begin + extent))
        return tirx.if_then_else(tirx.all(*inside), x(*position), tirx.const(0.0, str(x.dtype)))

    return stage(shape, element, name=PAD)


def static_shape(tensor: te.Tensor) -> list[int]:
    """The shape of a tensor whose extents are all constants."""
    placed: Any = tensor
    return [int(extent) for extent in placed.shape]


def workspace_bytes(problem: ConvProblem, physical_shape: Sequence[int]) -> int:
    """Bytes of the padded copy of an input of the given physical shape; 0 where there is nothing to pad."""
    if not problem.padded:
        return 0
    shape = list(physical_shape)
    for axis in range(problem.rank):
        shape[2 + axis] = problem.padded_extent(axis)
    return int(np.prod(shape)) * 4


def new_schedule(task: Task, placeholders: Sequence[te.Tensor], outputs: Sequence[te.Tensor]) -> TirSchedule:
    """A schedule of the kernel whose PrimFunc carries the task's name."""
    func: Any = te.create_prim_func([*placeholders, *outputs])
    return Schedule(func.with_attr("global_symbol", task.name), error_render_level="fast")


def kernel_function(schedule: TirSchedule, problem: ConvProblem, target: Target) -> AnyFunc:
    """The scheduled function; its parallel loops made serial where the work would not pay for waking threads."""
    func = schedule.mod["main"]
    macs = problem.batch * problem.pixels * problem.out_channels * problem.in_group * math.prod(problem.kernel)
    if target.kind != "llvm" or worth_threads(macs / target.lanes(32), target):
        return func

    def serial(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, None, loop.annotations, loop.step
        )

    return tvm_ffi.structural_map(func, ((tirx.For, serial),))


def block_name(schedule: TirSchedule, block: SBlockRV) -> str:
    """The name of a block."""
    return _block(schedule, block).name_hint


def _block(schedule: TirSchedule, block: SBlockRV) -> Any:
    return schedule.get(block)


def inline_epilogue(schedule: TirSchedule, keep: Sequence[str] = ()) -> SBlockRV:
    """Inlines everything after the accumulation into the one output block, and returns that block.

    Stages before the accumulation (the padded copy, a prologue) and blocks named in `keep` stay as they are.
    """
    before = producers_of_accumulation(schedule)
    kept = {block_name(schedule, block) for block in before} | {ACCUMULATE, *keep}
    root = schedule.get_sblock("root")
    outputs = []
    for block in schedule.get_child_blocks(root):
        if block_name(schedule, block) in kept:
            continue
        if schedule.get_consumers(block):
            schedule.compute_inline(block)
        else:
            outputs.append(block)
    if len(outputs) != 1:
        raise EdgeIRError("the template needs one output", expected=1, got=len(outputs))
    return outputs[0]


def inline_what_can_be(schedule: TirSchedule) -> list[SBlockRV]:
    """Inlines every stage after the accumulation that has a consumer and no reduction; returns those that stay."""
    kept = {block_name(schedule, block) for block in producers_of_accumulation(schedule)} | {ACCUMULATE}
    staying = []
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if block_name(schedule, block) in kept:
            continue
        reduces = any(int(iteration.iter_type) != 0 for iteration in _block(schedule, block).iter_vars)
        if schedule.get_consumers(block) and not reduces:
            schedule.compute_inline(block)
        else:
            staying.append(block)
    return staying


def producers_of_accumulation(schedule: TirSchedule) -> list[SBlockRV]:
    """The blocks that the accumulation depends on, in no particular order."""
    found: dict[str, SBlockRV] = {}
    waiting = [schedule.get_sblock(ACCUMULATE)]
    while waiting:
        for block in schedule.get_producers(waiting.pop()):
            name = block_name(schedule, block)
            if name not in found:
                found[name] = block
                waiting.append(block)
    return list(found.values())


def schedule_copies(schedule: TirSchedule, parallel: bool) -> None:
    """Schedules the stages before the accumulation as loops over memory: outer axes in parallel, inner as vectors."""
    for block in producers_of_accumulation(schedule):
        loops = schedule.get_loops(block)
        if not loops:
            continue
        if block_name(schedule, block) == PAD and len(loops) == 4:
            schedule_plain_padding(schedule, loops, parallel)
        else:
            schedule_elementwise(schedule, loops, parallel)


def schedule_plain_padding(schedule: TirSchedule, loops: Sequence[LoopRV], parallel: bool) -> None:
    """Copies rows of a plain image: what lies inside is cut from the zeros around it, and left to LLVM as a copy."""
    n, c, h, w = loops
    if parallel:
        schedule.parallel(schedule.fuse(n, c, h))
    schedule.annotate(w, "pragma_loop_partition_hint", 1)


def schedule_elementwise(schedule: TirSchedule, loops: Sequence[LoopRV], parallel: bool, lanes: int = 16) -> None:
    """Vectorises the innermost loop (cut to `lanes` if longer) and runs all but the last two loops in parallel."""
    inner = loops[-1]
    outer = loops[:-2] if len(loops) > 4 else loops[:-1]
    if parallel and outer:
        schedule.parallel(schedule.fuse(*outer))
    extent = loop_extent(schedule, inner)
    if extent > lanes:
        _, inner = schedule.split(inner, [None, lanes])
    schedule.vectorize(inner)
