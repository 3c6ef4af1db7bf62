"""The formula that turns a sum into an output element, taken from a task's stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import te, tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlock, SBlockRealize
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from edgeir.errors import EdgeIRError
from edgeir.schedules.conv_stages import ACCUMULATE, inline_epilogue, new_schedule, stage, static_shape
from edgeir.schedules.task import Task
from edgeir.schedules.tir_types import AnyBlock, AnyBuffer, AnyFunc, Expression
from edgeir.schedules.vector_math import vectorizable_math


@dataclass(frozen=True)
class Epilogue:
    """An output element as a function of the sum at the same index.

    Attributes:
        func: the function that it was taken from; a kernel takes over its arguments.
        output: the output's buffer.
        sums: the buffer that stands for the sums in the formula.
        axes: one variable for each axis of the output.
        formula: the output element at `axes`.
    """

    func: AnyFunc
    output: AnyBuffer
    sums: AnyBuffer
    axes: tuple[Any, ...]
    formula: Expression

    def at(self, index: Sequence[Any], value: Expression, first_axis: int, count: int) -> Expression:
        """The output element at an index.

        Args:
            index: one expression per axis; `count` axes from `first_axis` on are one position, written at the last of
                them.
            value: the sum.
            first_axis: the first axis of the position.
            count: how many axes the position has.
        """
        run = range(first_axis, first_axis + count)
        extents = static_shape(self.output)
        flat = index[first_axis + count - 1]
        apart = dict(zip(run, _split(flat, [extents[axis] for axis in run]), strict=True))
        exact = {id_of(v): apart.get(axis, index[axis]) for axis, v in enumerate(self.axes)}
        joined = {id_of(v): 0 if axis in apart else index[axis] for axis, v in enumerate(self.axes)}
        joined[id_of(self.axes[first_axis + count - 1])] = flat

        def load(access: Any) -> Any:
            if access.source.same_as(self.sums):
                return value
            whole = self._walks(access, run, extents)
            return tirx.BufferLoad(access.source, [_replaced(i, joined if whole else exact) for i in access.indices])

        # Indices are replaced with their loads; what is left are uses of a variable as a number.
        return _replaced(tvm_ffi.structural_map(self.formula, ((TensorLoad, load),)), exact)

    def _walks(self, access: Any, run: range, extents: Sequence[int]) -> bool:
        """Whether a load's axes include the position's, in order and whole: then they are one run in memory."""
        shape, indices = static_shape(access.source), list(access.indices)
        for at in range(len(indices) - len(run) + 1):
            if all(
                shape[at + i] == extents[axis] and (extents[axis] == 1 or _is(indices[at + i], self.axes[axis]))
                for i, axis in enumerate(run)
            ):
                return True
        return False


def id_of(variable: Any) -> str:
    """Names a variable of a formula: its axis is unique by name within one block."""
    return str(variable.name)


def _is(expression: Any, variable: Any) -> bool:
    return isinstance(expression, tirx.Var) and expression.same_as(variable)


def _replaced(expression: Any, values: Mapping[str, Any]) -> Any:
    def swap(variable: Any) -> Any:
        found = values.get(str(variable.name))
        if found is None or str(variable.ty) != "int32":
            return variable
        return tirx.IntImm("int32", found) if isinstance(found, int) else found

    return tvm_ffi.structural_map(expression, ((tirx.Var, swap),))


def _split(flat: Expression, extents: Sequence[int]) -> list[Expression]:
    """A flat position as one index per axis, row-major."""
    result: list[Expression] = []
    inner = 1
    for axis in reversed(range(len(extents))):
        if extents[axis] == 1:
            result.append(0)
            continue
        outermost = all(extent == 1 for extent in extents[:axis])
        part = flat if inner == 1 else tirx.floordiv(flat, tirx.IntImm("int32", inner))
        result.append(part if outermost else tirx.floormod(part, tirx.IntImm("int32", extents[axis])))
        inner *= extents[axis]
    return result[::-1]


def epilogue_of(task: Task, words: int, weight: int) -> Epilogue | None:
    """The epilogue of a task whose weight is stored in `words` words, or None if it is no formula of one element.

    Args:
        task: the task; its anchor's first input is an operand.
        words: length of the stored weight.
        weight: index of the weight's operand.
    """

    def anchor(inputs: Sequence[te.Tensor]) -> te.Tensor:
        return stage(task.anchor_output.shape, lambda *_: inputs[1][0], name=ACCUMULATE)

    placeholders, outputs = task.build(anchor, {weight: (words,)})
    schedule = new_schedule(task, placeholders, outputs)
    if len(schedule.get_child_blocks(schedule.get_sblock("root"))) == 1:
        # The product itself is the output.
        alone: AnyBlock = schedule.get(schedule.get_sblock(ACCUMULATE))
        axes = tuple(axis.var for axis in alone.iter_vars)
        sums = tirx.decl_buffer(static_shape(outputs[0]), "float32", "sums")
        return Epilogue(schedule.mod["main"], alone.body.buffer, sums, axes, tirx.BufferLoad(sums, list(axes)))
    try:
        block = inline_epilogue(schedule)
    except Exception:  # every schedule primitive raises its own types: a stage reduces, or is read twice
        return None
    func = vectorizable_math(schedule.mod["main"])
    found: AnyBlock = next(b for b in _blocks(func) if b.name_hint == schedule.get(block).name_hint)
    axes = tuple(axis.var for axis in found.iter_vars)
    sums = schedule.get(schedule.get_sblock(ACCUMULATE)).body.buffer
    if not isinstance(found.body, tirx.BufferStore) or found.init is not None:
        return None
    written = list(found.body.indices)
    if len(written) != len(axes) or not all(map(_is, written, axes)):
        return None
    straight: list[bool] = []

    def check(access: Any) -> Any:
        if access.source.same_as(sums):
            straight.append(len(axes) == len(access.indices) and all(map(_same_place, access.indices, found.iter_vars)))
        return access

    tvm_ffi.structural_map(found.body.value, ((TensorLoad, check),))
    return Epilogue(func, found.body.buffer, sums, axes, found.body.value) if straight and all(straight) else None


def _same_place(index: Any, axis: Any) -> bool:
    return _is(index, axis.var) or (int(axis.dom.extent) == 1 and isinstance(index, tirx.IntImm) and int(index) == 0)


def _blocks(func: AnyFunc) -> list[AnyBlock]:
    found: list[AnyBlock] = []

    def visit(block: Any) -> Any:
        found.append(block)
        return block

    tvm_ffi.structural_map(func, ((SBlock, visit),))
    return found


def with_loops(func: AnyFunc, emit: Callable[[], None]) -> AnyFunc:
    """A function with the same arguments, and as body what `emit` writes with TVM's IR builder.

    Raises:
        EdgeIRError: the function has no root block.
    """
    with IRBuilder() as builder:
        with T.seq_scope():
            emit()
        body: Any = builder.get()
    while isinstance(body, tirx.AttrStmt) and str(body.attr_key) == "pragma_scope":
        body = body.body
    if not isinstance(func.body, SBlockRealize):
        raise EdgeIRError("a function without a root block", got=type(func.body).__name__)
    return func.with_body(SBlockRealize([], True, SBlock([], [], [], "root", body)))
