"""A graph as a Relax module: `main`, which calls one kernel after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph, Node, Value
from edgeir.ir.types import TensorType
from edgeir.lowering import te
from edgeir.lowering.compute.registry import physical
from edgeir.lowering.compute.storage import carrier
from edgeir.lowering.in_place import Part, concatenated_in_place, place
from edgeir.lowering.layouts import to_physical
from edgeir.lowering.offset_arguments import with_offset_arguments
from edgeir.lowering.task import Lowering, kernel_name, lower_node
from edgeir.lowering.views import is_view, viewed
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target


@dataclass(frozen=True)
class Scheduled:
    """A kernel of a lowered graph.

    Attributes:
        task: what it computes.
        template: name of the schedule template.
        config: the template's knobs.
        kernel: the scheduled function and how its constants are packed.
    """

    task: Task
    template: str
    config: Config
    kernel: Kernel


Scheduler = Callable[[Task], Scheduled]
"""Schedules a task."""


@dataclass(frozen=True)
class Step:
    """A node and its kernel.

    Attributes:
        node: the node.
        lowering: the arguments of the kernel; None for a reshape, which only views its input, and for a concatenation
            that is put together in place.
        key: identifies the kernel: nodes of one key share one.
    """

    node: Node
    lowering: Lowering | None
    key: str


@dataclass(frozen=True)
class Plan:
    """What a compiled graph does, step by step.

    Attributes:
        steps: the graph's nodes in order.
        parts: results that their kernels write into a concatenation → where in it.
    """

    steps: tuple[Step, ...]
    parts: Mapping[Value, Part]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def calls(self) -> tuple[Step, ...]:
        """The steps that call a kernel."""
        return tuple(step for step in self.steps if step.lowering is not None)

    def place(self, value: Value) -> Part:
        """The value with memory of its own in which a value lies, through views and concatenations, and where."""
        return place(value, self.parts)


def plan(graph: Graph, target: Target | None = None) -> Plan:
    """The graph's nodes in order, each with its task; equal computations get equal names.

    Args:
        graph: fixed shapes, after all passes.
        target: the machine; concatenations are put together in place for a CPU. Without one, every concatenation has
            its kernel. What `build` compiled is in `Lowered.plan`.

    Raises:
        EdgeIRError: a dimension is symbolic, or an operator cannot be compiled.
    """
    parts = {} if target is None or target.gpu is not None else concatenated_in_place(graph)
    wholes = {part.whole for part in parts.values()}
    names: dict[str, str] = {}
    used: set[str] = {"main"}
    steps = []
    for node in graph.nodes:
        if is_view(node) or node.outputs[0] in wholes:
            steps.append(Step(node, None, ""))
            continue
        name = kernel_name(node, used.__contains__)
        try:
            lowering = lower_node(node, name)
        except EdgeIRError as error:
            raise type(error)(
                error.what, where=str(node), expected=error.expected, got=error.got, hint=error.hint,
                details=error.where,
            ) from error  # fmt: skip
        key = lowering.task.key
        if key not in names:
            names[key] = name
            used.add(name)
        steps.append(Step(node, lowering, key))
    return Plan(tuple(steps), parts)


class _Builder:
    """Writes `main`."""

    def __init__(self, graph: Graph, plan: Plan, scheduled: Mapping[str, Scheduled], arena: bool) -> None:
        self.graph = graph
        self.arena = arena
        self.plan = plan
        self.scheduled = scheduled
        self.functions_of = self.kernel_functions()
        self.block = relax.BlockBuilder()
        self.functions: dict[str, relax.GlobalVar] = {}
        self.variables: dict[Value, relax.Expr] = {}
        self.constants: dict[tuple[str, ...], relax.Expr] = {}
        self.constant_bytes = 0

    def kernel_functions(self) -> dict[str, tvm.tirx.PrimFunc]:
        """Key → the kernel; arguments that may lie in an arena or in a concatenation take an offset."""
        moved: dict[str, set[int]] = {}
        for step in self.plan.calls:
            values = [*step.lowering.sources, *step.node.outputs] if step.lowering is not None else []
            inside = {i for i, v in enumerate(values) if not isinstance(v, np.ndarray) and self.is_inside(viewed(v))}
            moved.setdefault(step.key, set()).update(inside)
        functions = {key: self.scheduled[key].kernel.func for key in moved}
        return {key: with_offset_arguments(func, moved[key]) if moved[key] else func for key, func in functions.items()}

    def is_inside(self, value: Value) -> bool:
        """Whether a value may begin inside a storage."""
        return value in self.plan.parts or (self.arena and not (value.is_input or value.is_constant))

    def function(self, name: str, func: tvm.tirx.PrimFunc) -> relax.GlobalVar:
        if name not in self.functions:
            self.functions[name] = self.block.add_func(func.without_attr("global_symbol"), name)
        return self.functions[name]

    def constant(self, array: np.ndarray, key: tuple[str, ...]) -> relax.Expr:
        if key not in self.constants:
            array = np.ascontiguousarray(array).reshape(array.shape)
            self.constants[key] = relax.const(tvm.runtime.tensor(array))
            self.constant_bytes += array.nbytes
        return self.constants[key]

    def value(self, value: Value) -> relax.Expr:
        if value.is_constant:
            return self.constant(to_physical(value.data, value.type), (value.digest, str(value.type)))
        return self.variables[value]

    def argument(self, step: Step, index: int) -> relax.Expr:
        """An argument of a kernel; constants packed as the kernel wants them."""
        assert step.lowering is not None
        source, scheduled = step.lowering.sources[index], self.scheduled[step.key]
        pack = scheduled.kernel.pack.get(index)
        if isinstance(source, np.ndarray):
            array = pack(source) if pack else source
            return self.constant(array, (scheduled.task.name, str(index), _digest(array)))
        if pack is None:
            return self.value(source)
        key = (source.digest, str(source.type), scheduled.task.name, str(index))
        if key not in self.constants:
            return self.constant(pack(to_physical(source.data, source.type)), key)
        return self.constants[key]

    def call(self, step: Step) -> None:
        assert step.lowering is not None
        scheduled = self.scheduled[step.key]
        function = self.function(scheduled.task.name, self.functions_of[step.key])
        arguments = [self.argument(step, i) for i in range(len(step.lowering.sources))]
        if any(value in self.plan.parts for value in step.node.outputs):
            results = [self.memory(value) for value in step.node.outputs]
            self.block.emit(relax.Call(function, [*arguments, *results]))
            return
        types = [tensor_type(value.type) for value in step.node.outputs]
        result = self.block.emit(
            relax.call_tir(function, relax.Tuple(arguments), types if len(types) > 1 else types[0])
        )
        if len(types) == 1:
            self.variables[step.node.outputs[0]] = result
            return
        for index, value in enumerate(step.node.outputs):
            self.variables[value] = self.block.emit(relax.TupleGetItem(result, index))

    def memory(self, value: Value) -> relax.Expr:
        """Where a result is written: a tensor of its own, or a part of a concatenation."""
        if value not in self.variables:
            part = self.plan.parts.get(value)
            # TVM's annotations ask for expressions; it takes integers and names.
            shape: Any = relax.ShapeExpr(list[Any](physical(value.type)))
            dtype: Any = carrier(value.type.dtype)
            if part is None:
                made = relax.op.builtin.alloc_tensor(shape, dtype, 0)
            else:
                offset: Any = part.offset
                made = relax.op.memory.view(self.memory(part.whole), shape, dtype, offset)
            self.variables[value] = self.block.emit(made)
        return self.variables[value]

    def view(self, node: Node) -> None:
        source = node.input(0)
        shape: Any = physical(node.output.type)  # TVM's annotations ask for expressions; it takes integers
        self.variables[node.output] = self.block.emit(relax.op.reshape(self.value(source), shape))

    def outputs(self) -> list[relax.Expr]:
        """The results; each in memory of its own, which the caller may keep and change."""
        taken: set[Value] = set()
        results = []
        for value in self.graph.outputs:
            root = viewed(value)
            expression = self.value(value)
            if root.is_input or root.is_constant or root in taken:
                shape, dtype = physical(value.type), carrier(value.type.dtype)
                name = f"copy_{dtype}_{'x'.join(map(str, shape))}"
                function = self.function(name, copy_function(shape, dtype, name))
                expression = self.block.emit(
                    relax.call_tir(function, relax.Tuple([expression]), tensor_type(value.type))
                )
            taken.add(root)
            results.append(expression)
        return results


def copy_function(shape: tuple[int, ...], dtype: str, name: str) -> tvm.tirx.PrimFunc:
    """A kernel that copies a tensor."""
    source = te.placeholder(shape, dtype, name="source")
    target = te.compute(shape, lambda *i: source(*i), name="target")
    return te.create_prim_func([source, target]).with_attr("global_symbol", name)


def tensor_type(type: TensorType) -> relax.TensorType:
    """The Relax type of a value: physical shape, carrier element type."""
    shape: Any = physical(type)
    return relax.TensorType(shape, carrier(type.dtype))


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def relax_module(graph: Graph, plan: Plan, scheduled: Mapping[str, Scheduled], arena: bool) -> tuple[tvm.IRModule, int]:
    """The module of `main` and the kernels, and the bytes of its constants.

    Args:
        graph: the graph; its shapes are fixed.
        plan: its steps.
        scheduled: task key → kernel.
        arena: whether intermediate results may begin inside a storage.
    """
    builder = _Builder(graph, plan, scheduled, arena)
    parameters = [relax.Var(f"input{i}", tensor_type(v.type)) for i, v in enumerate(graph.inputs)]
    builder.variables.update(zip(graph.inputs, parameters, strict=True))
    with builder.block.function("main", parameters):
        with builder.block.dataflow():
            for step in plan:
                if step.lowering is not None:
                    builder.call(step)
                elif is_view(step.node):
                    builder.view(step.node)
            results = builder.outputs()
            result = builder.block.emit_output(relax.Tuple(results))
        builder.block.emit_func_output(result)
    return builder.block.get(), builder.constant_bytes
