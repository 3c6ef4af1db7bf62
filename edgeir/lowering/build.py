"""From a graph to machine code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph
from edgeir.lowering.gpu import bound_functions, export_options
from edgeir.lowering.linking import linker_for
from edgeir.lowering.module import Plan, Scheduled, Scheduler, plan, relax_module
from edgeir.lowering.storages import one_arena, planned_peak, views_of_storage
from edgeir.schedules.select import select
from edgeir.schedules.task import Task
from edgeir.targets.target import Target


@dataclass(frozen=True)
class Lowered:
    """A compiled graph.

    Attributes:
        executable: the `relax.VMExecutable`; its function `main` takes the inputs and returns a tuple of the outputs.
        kernels: each distinct kernel: its task, the template and config that scheduled it, its function.
        calls: names of the kernels that `main` calls, in order; copies that keep outputs apart are not among them.
        plan: what `main` does, step by step; its `calls` are these.
        activation_bytes: planned memory for intermediate results and outputs, at its peak.
        workspace_bytes: the largest temporary memory of one kernel.
        constant_bytes: bytes of the constants, as packed.
        target: what it was compiled for.
    """

    executable: Any
    kernels: tuple[Scheduled, ...]
    calls: tuple[str, ...]
    plan: Plan
    activation_bytes: int
    workspace_bytes: int
    constant_bytes: int
    target: Target


def build(graph: Graph, target: Target, threads: int | None = None, scheduler: Scheduler | None = None) -> Lowered:
    """Compiles a graph.

    Args:
        graph: fixed shapes; best fused (every node that is not becomes a kernel by itself).
        target: the machine.
        threads: threads that kernels may use; the target's default if None.
        scheduler: how to schedule a task; by default the templates' choice, untuned.

    Raises:
        UnsupportedModelError: an operator cannot be compiled.
        EdgeIRError: a dimension is symbolic.
    """
    if threads is not None:
        target = target.with_cores(threads)
    planned = plan(graph, target)
    schedule = scheduler or default_scheduler(target)
    scheduled: dict[str, Scheduled] = {}
    for step in planned:
        if step.lowering is not None and step.key not in scheduled:
            scheduled[step.key] = schedule(step.lowering.task)
    # Kernels for a GPU take no offsets.
    arena = target.gpu is None
    module, constant_bytes = relax_module(graph, planned, scheduled, arena)
    if target.gpu is not None:
        module = bound_functions(module, target)
    tvm_target = tvm.target.Target(target.tvm_config())
    recorded: list[int] = []
    with tvm_target:
        executable = relax.build(module, tvm_target, relax_pipeline=_pipeline(recorded, arena), tir_pipeline="s_tir")
    workspace = max((s.kernel.workspace_bytes for s in scheduled.values()), default=0)
    calls = tuple(scheduled[step.key].task.name for step in planned.calls)
    return Lowered(
        executable, tuple(scheduled.values()), calls, planned, recorded[0], workspace, constant_bytes, target
    )


def default_scheduler(target: Target) -> Scheduler:
    """The templates' own choice for a target."""

    def choose(task: Task) -> Scheduled:
        template = select(task, target)
        config = template.default(task, target)
        return Scheduled(task, template.name, config, template.apply(task, config, target))

    return choose


def _pipeline(recorded: list[int], arena: bool) -> tvm.transform.Pass:
    """Memory planning and lowering of `main`; nothing that would touch or fuse kernels.

    TVM's RewriteDataflowReshape is left out: it would turn the copies that keep results apart into views.

    Args:
        recorded: receives the peak of the planned memory in bytes.
        arena: whether intermediate results share one storage; else TVM reuses storages whole.
    """
    passes = relax.transform

    @tvm.transform.module_pass(opt_level=0, name="record_memory")
    def record(module: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        recorded.append(planned_peak(module["main"]))
        return module

    return tvm.transform.Sequential(
        [
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            *([] if arena else [passes.StaticPlanBlockMemory()]),
            passes.LowerAllocTensor(),
            views_of_storage,
            *([one_arena] if arena else []),
            passes.KillAfterLastUse(),
            record,
            passes.LowerRuntimeBuiltin(),
            passes.ComputePrimValue(),
            passes.VMShapeLower(),
            passes.AttachGlobalSymbol(),
        ]
    )


def export(lowered: Lowered, path: str | Path) -> None:
    """Writes a shared library that the TVM runtime loads, with a C compiler.

    Args:
        lowered: the compiled graph.
        path: the file, `model.so`.

    Raises:
        EdgeIRError: the target is foreign and no compiler for it was found, or the linker failed.
    """
    options = export_options(lowered.executable, lowered.target)
    try:
        # The executable's own export_library hides `fpack_imports`.
        lowered.executable.mod.export_library(str(path), fcompile=linker_for(lowered.target), **options)
    except (RuntimeError, OSError) as error:
        raise EdgeIRError("the shared library could not be linked", where=str(path), got=str(error)) from error
