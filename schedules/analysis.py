"""What a schedule asks of a TIR block: its loops, its accesses and the cost of its body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlockRealize

from edgeir.schedules.tir_types import AnyBlock, AnyBuffer, AnySchedule

_SPATIAL, _REDUCE = tirx.IterVar.DataPar, tirx.IterVar.CommReduce

# Rough cycles of one scalar operation, beside 1 for an addition.
_CALL_COST = {"if_then_else": 1, "likely": 0, "reinterpret": 0, "isnan": 2}
_LIBRARY_CALL_COST = 20
_DIVISION_COST = 5

_VECTOR_DTYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@dataclass(frozen=True)
class Access:
    """One element read or written: buffer and index expressions."""

    buffer: AnyBuffer
    indices: tuple[Any, ...]


def nodes(root: Any) -> Iterator[Any]:
    """Every object below `root`, children first."""
    found: list[Any] = []
    tvm_ffi.structural_walk(root, found.append)
    return iter(found)


def call_name(call: Any) -> str:
    """The builtin that is called, without the dialect: `exp`, `if_then_else`; "" for a call of something else."""
    return str(getattr(call.op, "name", "")).rpartition(".")[2]


def uses(root: Any, variable: tirx.Var) -> bool:
    """Whether `variable` occurs in the expression or statement."""
    return any(isinstance(node, tirx.Var) and node.same_as(variable) for node in nodes(root))


def extent(schedule: AnySchedule, loop: Any) -> int:
    """Number of iterations of a loop of constant length."""
    return int(schedule.get(loop).extent)


def iterations(schedule: AnySchedule, block: Any) -> int:
    """How often the block runs."""
    product = 1
    for loop in schedule.get_loops(block):
        product *= extent(schedule, loop)
    return product


def blocks(schedule: AnySchedule) -> list[Any]:
    """The blocks of the function in the order in which they run; none for a function without a root block."""
    body: Any = schedule.mod["main"].body
    return list(schedule.get_child_blocks(schedule.get_sblock("root"))) if _is_root(body) else []


def _is_root(body: Any) -> bool:
    return isinstance(body, SBlockRealize) and str(body.block.name_hint) == "root"


def names(schedule: AnySchedule) -> list[str]:
    """The names of `blocks`."""
    return [str(schedule.get(block).name_hint) for block in blocks(schedule)]


def is_plain(block: AnyBlock) -> bool:
    """Whether the block is one assignment to one element, as `te.compute` makes it."""
    return (
        isinstance(block.body, tirx.BufferStore)
        and len(block.writes) == 1
        and all(int(axis.iter_type) in (_SPATIAL, _REDUCE) for axis in block.iter_vars)
    )


def is_reduction(block: AnyBlock) -> bool:
    """Whether the block accumulates."""
    return block.init is not None


def is_injective(block: AnyBlock) -> bool:
    """Whether the block computes each element by itself and indexes its output by its own axes."""
    if not is_plain(block) or is_reduction(block):
        return False
    indices = [index for index in block.body.indices]
    axes = [axis.var for axis in block.iter_vars]
    if not indices:
        return True
    return len(indices) == len(axes) and all(
        isinstance(index, tirx.Var) and index.same_as(axis) for index, axis in zip(indices, axes, strict=True)
    )


def loads(block: AnyBlock) -> list[Access]:
    """The elements that the body reads, one entry for each occurrence; the accumulator of a reduction excluded."""
    written = block.body.buffer if isinstance(block.body, tirx.BufferStore) else None
    return [
        Access(node.source, tuple(node.indices))
        for node in nodes(block.body)
        if isinstance(node, TensorLoad) and not (is_reduction(block) and node.source.same_as(written))
    ]


def store(block: AnyBlock) -> Access:
    """The element that a plain block writes."""
    return Access(block.body.buffer, tuple(block.body.indices))


def size(buffer: AnyBuffer) -> int:
    """Number of elements."""
    product = 1
    for dimension in buffer.shape:
        product *= int(dimension)
    return product


def cost(block: AnyBlock) -> float:
    """Rough scalar cycles of one run of the body: arithmetic and loads, index arithmetic included."""
    total = 0.0
    for node in nodes(block.body):
        if isinstance(node, Call):
            total += _CALL_COST.get(call_name(node), _LIBRARY_CALL_COST)
        elif isinstance(node, (tirx.Div, tirx.FloorDiv, tirx.FloorMod, tirx.Mod)):
            total += _DIVISION_COST if isinstance(node, tirx.Div) else 1
        elif isinstance(node, (tirx.Add, tirx.Sub, tirx.Mul, tirx.Max, tirx.Min, tirx.Select, TensorLoad)):
            total += 1
    return total


def node_count(block: AnyBlock) -> int:
    """Number of IR nodes in the body: what grows without bound when computation is copied into its readers."""
    return sum(1 for _ in nodes(block.body))


def element_bits(block: AnyBlock) -> int:
    """Width of the widest element that the body reads or writes."""
    widths = [32 if str(a.buffer.dtype) == "bool" else _bits(a.buffer.dtype) for a in [*loads(block), store(block)]]
    return max(widths)


def _bits(dtype: Any) -> int:
    digits = "".join(c for c in str(dtype) if c.isdigit())
    return int(digits) if digits else 8


def element_bytes(dtype: str) -> int:
    """Bytes of one element in memory; a bool takes one."""
    return max(1, (_bits(dtype) if dtype != "bool" else 8) // 8)


def has_vector_dtypes(block: AnyBlock) -> bool:
    """Whether every element is of a type that every target keeps in vector registers."""
    return all(str(a.buffer.dtype) in _VECTOR_DTYPES for a in [*loads(block), store(block)])


def branches_on(block: AnyBlock, variable: tirx.Var) -> bool:
    """Whether an `if_then_else` condition, or an indirect index, depends on the axis: TVM then writes scalar code."""
    for node in nodes(block.body):
        if isinstance(node, Call) and call_name(node) == "if_then_else":
            if uses(node.args[0], variable):
                return True
        elif isinstance(node, Call) and call_name(node) not in _KNOWN_VECTOR_CALLS:
            return True
    return False


def branches_jointly(block: AnyBlock, variables: Sequence[tirx.Var]) -> bool:
    """Whether an `if_then_else` condition depends on several of the axes at once."""
    return any(
        sum(uses(node.args[0], variable) for variable in variables) > 1
        for node in nodes(block.body)
        if isinstance(node, Call) and call_name(node) == "if_then_else"
    )


_KNOWN_VECTOR_CALLS = (
    "if_then_else", "exp", "tanh", "erf", "sigmoid", "sqrt", "rsqrt", "fabs",
    "floor", "ceil", "likely", "round", "trunc", "nearbyint", "log", "pow", "reinterpret",
    "isnan", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right", "cos",
    "sin",
)  # fmt: skip


def trailing_axes_in_order(access: Access, axes: Sequence[tirx.Var]) -> int:
    """How many of the last `axes` walk the access linearly.

    Counts k such that the last k axes are the last k indices, in order. An access that uses none of the axes is
    linear in all of them.
    """
    if not any(uses(index, axis) for index in access.indices for axis in axes):
        return len(axes)
    count = 0
    for index, axis in zip(reversed(access.indices), reversed(axes), strict=False):
        if not (isinstance(index, tirx.Var) and index.same_as(axis)):
            break
        count += 1
    remaining = access.indices[: len(access.indices) - count]
    while count > 0 and any(uses(index, axis) for index in remaining for axis in axes[len(axes) - count :]):
        count -= 1
        remaining = access.indices[: len(access.indices) - count]
    return count


def contiguous_axis(access: Access, axes: Sequence[tirx.Var]) -> tirx.Var | None:
    """The axis that moves the access by one element, or None. Only sums of the axis and others are recognised."""
    if not access.indices:
        return None
    last = access.indices[-1]
    for axis in axes:
        if _has_unit_step(last, axis) and not any(uses(index, axis) for index in access.indices[:-1]):
            return axis
    return None


def _has_unit_step(expression: Any, axis: tirx.Var) -> bool:
    if isinstance(expression, tirx.Var):
        return bool(expression.same_as(axis))
    if isinstance(expression, tirx.Add):
        left, right = uses(expression.a, axis), uses(expression.b, axis)
        return left != right and _has_unit_step(expression.a if left else expression.b, axis)
    if isinstance(expression, tirx.Sub):
        return uses(expression.a, axis) and not uses(expression.b, axis) and _has_unit_step(expression.a, axis)
    return False


def realize(schedule: AnySchedule, block: Any) -> SBlockRealize | None:
    """How the block's axes are bound to its loops; None where a loop holds more than this block."""
    loops = schedule.get_loops(block)
    if not loops:
        return None
    body = schedule.get(loops[-1]).body
    return body if isinstance(body, SBlockRealize) else None


def loop_kinds(schedule: AnySchedule, block: Any) -> list[str]:
    """For each loop of the block `spatial`, `reduce`, `mixed` or `unused`, by the axes that it drives."""
    binding = realize(schedule, block)
    loops = schedule.get_loops(block)
    if binding is None:
        return ["mixed"] * len(loops)
    kinds = []
    for loop in loops:
        variable = schedule.get(loop).loop_var
        drives = {
            int(axis.iter_type)
            for axis, value in zip(binding.block.iter_vars, binding.iter_values, strict=True)
            if uses(value, variable)
        }
        kinds.append(
            "unused" if not drives
            else "spatial" if drives == {_SPATIAL}
            else "reduce" if drives == {_REDUCE}
            else "mixed"
        )  # fmt: skip
    return kinds


def is_output(schedule: AnySchedule, block: Any) -> bool:
    """Whether the block writes an argument of the function rather than an intermediate buffer."""
    allocated = schedule.get(schedule.get_sblock("root")).alloc_buffers
    return any(not any(region.source.same_as(buffer) for buffer in allocated) for region in schedule.get(block).writes)


def is_zero(expression: Any) -> bool:
    """Whether an expression is the constant 0."""
    return isinstance(expression, tirx.IntImm) and int(expression) == 0
