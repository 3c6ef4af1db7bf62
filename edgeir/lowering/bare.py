"""Kernels as an object file that needs no library of TVM's, and what a program must do to call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.ir import Call
from tvm.tirx import compilation_pipeline

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph, Value
from edgeir.lowering.build import default_scheduler
from edgeir.lowering.in_place import ALIGNMENT
from edgeir.lowering.layouts import to_physical
from edgeir.lowering.module import Plan, Scheduled, Scheduler, Step, plan
from edgeir.schedules.analysis import call_name, nodes
from edgeir.schedules.tir_types import AnyFunc
from edgeir.targets.target import Target

SYMBOL_PREFIX = "__tvm_ffi_"
_ALLOCATE = "TVMBackendAllocWorkspace"


@dataclass(frozen=True)
class Argument:
    """An argument of a kernel: a constant by its number, or the memory of a value, from an offset in bytes on."""

    constant: int | None = None
    value: Value | None = None
    offset: int = 0


@dataclass(frozen=True)
class KernelCall:
    """One call.

    Attributes:
        kernel: name of the kernel; its symbol is `SYMBOL_PREFIX` + name.
        arguments: operands, then results.
        reads, writes: the values among them; those that lie in another one are replaced by that one.
    """

    kernel: str
    arguments: tuple[Argument, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]


@dataclass(frozen=True)
class Result:
    """An output of the program: a value's memory, or a constant by its number."""

    name: str
    value: Value
    constant: int | None


@dataclass(frozen=True)
class BareProgram:
    """A graph as a sequence of kernel calls.

    Attributes:
        graph: the graph.
        calls: in order.
        constants: arrays as kernels read them.
        results: the outputs, in order.
        kernels: each distinct kernel.
        target: the machine, with one core.
    """

    graph: Graph
    calls: tuple[KernelCall, ...]
    constants: tuple[np.ndarray, ...]
    results: tuple[Result, ...]
    kernels: tuple[Scheduled, ...]
    target: Target


def bare_program(graph: Graph, target: Target, scheduler: Scheduler | None = None) -> BareProgram:
    """Plans the calls of a graph for one core.

    Args:
        graph: fixed shapes, after all passes.
        target: the machine.
        scheduler: how to schedule a task; the templates' default if None.

    Raises:
        EdgeIRError: the target is a GPU, a dimension is symbolic, or an operator cannot be compiled.
    """
    if target.gpu is not None:
        raise EdgeIRError("C programs are for CPUs", where=f"target {target.name}", hint="give the CPU as target")
    target = target.with_cores(1)
    steps = plan(graph, target)
    schedule = scheduler or default_scheduler(target)
    scheduled: dict[str, Scheduled] = {}
    for step in steps:
        if step.lowering is not None and step.key not in scheduled:
            scheduled[step.key] = schedule(step.lowering.task)
    pool = _Constants()
    calls = [_call(step, steps, scheduled[step.key], pool) for step in steps.calls]
    results = []
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        source = steps.place(value).whole
        number = pool.add(to_physical(source.data, source.type)) if source.is_constant else None
        results.append(Result(name, source, number))
    return BareProgram(graph, tuple(calls), tuple(pool.arrays), tuple(results), tuple(scheduled.values()), target)


class _Constants:
    """Arrays, equal ones once."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._numbers: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def add(self, array: np.ndarray) -> int:
        array = np.ascontiguousarray(array)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._numbers:
            self._numbers[key] = len(self.arrays)
            self.arrays.append(array)
        return self._numbers[key]


def _call(step: Step, steps: Plan, scheduled: Scheduled, pool: _Constants) -> KernelCall:
    assert step.lowering is not None
    arguments: list[Argument] = []
    reads: list[Value] = []
    for index, source in enumerate(step.lowering.sources):
        pack = scheduled.kernel.pack.get(index)
        if not isinstance(source, np.ndarray):
            place = steps.place(source)
            source = place.whole
            if not source.is_constant:
                arguments.append(Argument(value=source, offset=place.offset))
                reads.append(source)
                continue
            source = to_physical(source.data, source.type)
        arguments.append(Argument(constant=pool.add(pack(source) if pack else source)))
    places = [steps.place(value) for value in step.node.outputs]
    arguments += [Argument(value=place.whole, offset=place.offset) for place in places]
    writes = dict.fromkeys(place.whole for place in places)
    return KernelCall(scheduled.task.name, tuple(arguments), tuple(dict.fromkeys(reads)), tuple(writes))


def write_kernels(program: BareProgram, path: Path) -> Mapping[str, int]:
    """Writes the kernels as an object file, and returns the bytes of workspace that each of them asks for.

    Checks of the arguments' types and shapes are left out: the program that calls them is generated too. An object
    needs `TVMBackendAllocWorkspace`, `TVMBackendFreeWorkspace` and `TVMBackendParallelLaunch`, as pointers of these
    names after `__`, besides libc and libm.

    Raises:
        EdgeIRError: code could not be generated or written.
    """
    functions = {s.task.name: s.kernel.func.with_attr("global_symbol", s.task.name) for s in program.kernels}
    machine = tvm.target.Target(program.target.tvm_config())
    machine = machine.with_host(machine)
    pipeline: Any = compilation_pipeline.get_tir_pipeline("s_tir")
    lower, finalize, _ = pipeline
    passes = tirx.transform
    try:
        with machine:
            module = lower(passes.BindTarget(machine)(tvm.IRModule(functions)))
            module = tvm.transform.Sequential(
                [passes.SkipAssert(), passes.StmtSimplify(), passes.RemoveNoOp(), finalize()]
            )(module)
            code = tvm.get_global_func("target.build.llvm")(module, machine)
            code.write_to_file(str(path), "o")
    except (RuntimeError, OSError) as error:
        raise EdgeIRError("the kernels could not be written", where=str(path), got=str(error)) from error
    return {name.removeprefix(SYMBOL_PREFIX): _workspace(func) for name, func in _named(module)}


def _named(module: Any) -> list[tuple[str, AnyFunc]]:
    return [(variable.name_hint, function) for variable, function in module.functions.items()]


def _workspace(function: AnyFunc) -> int:
    """The sum of what a lowered function allocates, each rounded up to the alignment."""
    total = 0
    for node in nodes(function.body):
        if isinstance(node, Call) and call_name(node) == _ALLOCATE:
            # Device type, device number, bytes, type code, type bits.
            size: Any = node.args[2]
            total += -(-int(size) // ALIGNMENT) * ALIGNMENT
    return total
