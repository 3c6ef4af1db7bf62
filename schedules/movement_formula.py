"""Kernels that only move data: the output element as one formula, and where its loads lie, evaluated in numpy.

What a schedule must know of the index arithmetic (which elements of a tile are neighbours in an input, whether a
boundary falls inside a tile) is asked of the numbers themselves: they hold for whatever divisions and remainders an
expression has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm_ffi
from tvm import te, tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad

from edgeir.schedules import analysis
from edgeir.schedules.attention_formulas import formula, substituted
from edgeir.schedules.task import Task
from edgeir.schedules.tir_types import AnyBuffer, AnyFunc, Expression

_MAX_NODES = 1500
_MAX_LEAVES = 32
_MAX_ELEMENTS = 1 << 23
# Cheap to compute again; anything else is a library call.
_FREE_CALLS = frozenset(("if_then_else", "likely", "reinterpret", "isnan", "tensor_load", "bitwise_and", "shift_left"))

Index = Mapping[Any, np.ndarray]
"""Axis variable → the values that it takes; the arrays of all axes broadcast together."""


@dataclass(frozen=True)
class Leaf:
    """The output element where all conditions on the position are decided.

    Attributes:
        value: without conditions on the position.
        path: the conditions that hold here, each with whether it is true.
        loads: its distinct loads.
    """

    value: Expression
    path: tuple[tuple[Expression, bool], ...]
    loads: tuple[Any, ...]


@dataclass(frozen=True)
class Branch:
    """A condition on the position, and what follows where it holds and where it does not."""

    condition: Expression
    yes: Branch | Leaf
    no: Branch | Leaf


@dataclass(frozen=True)
class Movement:
    """A computation whose output elements each follow from a few input elements.

    Attributes:
        func: takes the arguments of the kernel.
        output: the output's buffer.
        axes: variables of the output's axes, neighbours joined where every load walks both as one run.
        extents: their lengths.
        root: the output element.
    """

    func: AnyFunc
    output: AnyBuffer
    axes: tuple[Any, ...]
    extents: tuple[int, ...]
    root: Branch | Leaf

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """All leaves, from the first condition's true side on."""
        return tuple(_leaves(self.root))


def _leaves(node: Branch | Leaf) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        yield from _leaves(node.yes)
        yield from _leaves(node.no)


class NotMovementError(Exception):
    """The computation is more than moving data, or an index is no arithmetic on positions."""


def movement_of(task: Task, plain: Callable[[Task], AnyFunc]) -> Movement:
    """The computation of a task as a movement.

    Args:
        task: the task.
        plain: makes its unscheduled function.

    Raises:
        NotMovementError: it is none: several outputs, a reduction, a stage that is not cheap to compute again, indices
            that are read from memory, a position used as a number.
    """
    placeholders, outputs = task.build()
    if len(outputs) != 1:
        raise NotMovementError("several outputs")
    output = outputs[0]
    _check_stages(output)
    func = plain(task)
    parameters = list(func.params)
    found = formula(output, dict(zip(placeholders, parameters, strict=False)))
    extents = [int(d) for d in task.outputs[0].shape]
    if not 1 <= math.prod(extents) <= _MAX_ELEMENTS:
        raise NotMovementError("too large or empty")
    axes, extents, root = _joined(found.axes, extents, _Decisions(found.axes).tree(found.expression))
    return Movement(func, parameters[-1], tuple(axes), tuple(extents), root)


def _check_stages(output: Any) -> None:
    sizes: dict[Any, float] = {}
    whole = math.prod(int(d) for d in output.shape)

    def nodes(stage: Any) -> float:
        if not stage.shape:
            raise NotMovementError("a scalar")  # TVM cannot look one up
        if stage not in sizes:
            sizes[stage] = 1.0 if isinstance(stage.op, te.PlaceholderOp) else body_nodes(stage)
        return sizes[stage]

    def body_nodes(stage: Any) -> float:
        operation: Any = stage.op
        if not isinstance(operation, te.ComputeOp):
            raise NotMovementError("a stage that is no formula")
        if len(operation.reduce_axis) or len(operation.body) != 1:  # pyright: ignore[reportAttributeAccessIssue]
            raise NotMovementError("a stage reduces, or has several results")
        body: Any = operation.body[0]  # pyright: ignore[reportAttributeAccessIssue]
        calls = [n for n in analysis.nodes(body) if isinstance(n, Call)]
        costly = any(analysis.call_name(call) not in _FREE_CALLS for call in calls)
        if costly and math.prod(int(d) for d in stage.shape) < whole:
            raise NotMovementError("a costly stage would be computed several times")
        total = float(sum(1 for _ in analysis.nodes(body)))
        for call in calls:
            if analysis.call_name(call) == "tensor_load":
                total += nodes(call.args[0])
        if total > _MAX_NODES:
            raise NotMovementError("too long a formula")
        return total

    nodes(output)


class _Decisions:
    """Decides every condition on the position, the outermost first."""

    def __init__(self, axes: Sequence[Any]) -> None:
        self.axes = axes
        self.leaves = 0

    def tree(self, value: Expression, path: tuple[tuple[Expression, bool], ...] = ()) -> Branch | Leaf:
        # The last in post-order is inside no other.
        test = next(filter(_tests_position, reversed(list(analysis.nodes(value)))), None)
        if test is None:
            self.leaves += 1
            if self.leaves > _MAX_LEAVES:
                raise NotMovementError("too many conditions")
            return _leaf(value, self.axes, path)
        condition, yes, no = _parts(test)
        for known, truth in path:
            if tvm_ffi.structural_equal(known, condition):
                return self.tree(_replace(value, test, yes if truth else no), path)
        return Branch(
            condition,
            self.tree(_replace(value, test, yes), (*path, (condition, True))),
            self.tree(_replace(value, test, no), (*path, (condition, False))),
        )


def _tests_position(node: Any) -> bool:
    if isinstance(node, Call) and analysis.call_name(node) == "if_then_else":
        return True
    return isinstance(node, tirx.Select) and not _has_load(node.condition)


def _has_load(node: Any) -> bool:
    return any(isinstance(inner, TensorLoad) for inner in analysis.nodes(node))


def _parts(node: Any) -> tuple[Expression, Expression, Expression]:
    if isinstance(node, tirx.Select):
        return node.condition, node.true_value, node.false_value
    return node.args[0], node.args[1], node.args[2]


def _replace(value: Expression, old: Any, new: Any) -> Expression:
    def swap(node: Any) -> Any:
        # Children come first and may have been rewritten, so equal nodes count, not only the same one.
        return new if node.same_as(old) or tvm_ffi.structural_equal(node, old) else node

    return tvm_ffi.structural_map(value, ((type(old), swap),))


def _leaf(value: Expression, axes: Sequence[Any], path: tuple[tuple[Expression, bool], ...]) -> Leaf:
    loads: list[Any] = []
    for node in analysis.nodes(value):
        if isinstance(node, TensorLoad) and not any(same_load(node, other) for other in loads):
            loads.append(node)
    if any(_has_load(index) for load in loads for index in load.indices):
        raise NotMovementError("indices read from memory")
    bare = tvm_ffi.structural_map(value, ((TensorLoad, lambda load: tirx.const(0, load.ty)),))
    if any(analysis.uses(bare, axis) for axis in axes):
        raise NotMovementError("a position used as a number")
    return Leaf(value, path, tuple(loads))


def same_load(left: Any, right: Any) -> bool:
    """Whether two loads read the same element."""
    return bool(left.source.same_as(right.source)) and bool(
        tvm_ffi.structural_equal(list(left.indices), list(right.indices))
    )


def address(load: Any) -> Expression:
    """The element that a load reads, counted in memory order."""
    flat: Any = tirx.IntImm("int32", 0)
    for index, extent in zip(load.indices, load.source.shape, strict=True):
        flat = flat * int(extent) + index
    return flat


def _joined(
    axes: Sequence[Any], extents: Sequence[int], root: Branch | Leaf
) -> tuple[list[Any], list[int], Branch | Leaf]:
    """The axes with neighbours joined where every load walks both as one run, and none of length 1."""
    steps = [_steps(evaluated, len(axes)) for evaluated in _evaluated(axes, extents, root)]
    groups: list[list[int]] = []
    for axis in range(len(axes)):
        if extents[axis] == 1:
            continue
        if groups and all(_one_run(step, groups[-1][-1], axis, extents[axis]) for step in steps):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    new_axes, new_extents = [], []
    values: list[Any] = [0] * len(axes)
    for number, group in enumerate(groups):
        variable = tirx.Var(f"a{number}", "int32")
        inner = 1
        for axis in reversed(group):
            part: Any = variable if inner == 1 else tirx.floordiv(variable, tirx.IntImm("int32", inner))
            values[axis] = part if axis == group[0] else tirx.floormod(part, tirx.IntImm("int32", extents[axis]))
            inner *= extents[axis]
        new_axes.append(variable)
        new_extents.append(inner)

    def rebuilt(node: Branch | Leaf) -> Branch | Leaf:
        if isinstance(node, Branch):
            return Branch(substituted(node.condition, axes, values), rebuilt(node.yes), rebuilt(node.no))
        path = tuple((substituted(test, axes, values), truth) for test, truth in node.path)
        return _leaf(substituted(node.value, axes, values), axes, path)

    return new_axes, new_extents, rebuilt(root)


def _evaluated(axes: Sequence[Any], extents: Sequence[int], root: Branch | Leaf) -> Iterator[np.ndarray]:
    grid = dict(zip(axes, np.ogrid[tuple(slice(n) for n in extents)], strict=True)) if axes else {}
    for leaf in _leaves(root):
        for load in leaf.loads:
            yield evaluate(address(load), grid)
        for test, _ in leaf.path:
            yield evaluate(test, grid).astype(np.int32)


def _steps(values: np.ndarray, rank: int) -> list[int | None]:
    """For each axis how far a step along it moves; None where that differs from place to place."""
    if values.ndim < rank:
        values = values.reshape((1,) * (rank - values.ndim) + values.shape)
    result: list[int | None] = []
    for axis in range(rank):
        if values.shape[axis] == 1:
            result.append(0)
            continue
        difference = np.diff(values, axis=axis)
        first = int(difference.flat[0])
        result.append(first if (difference == first).all() else None)
    return result


def _one_run(steps: Sequence[int | None], outer: int, inner: int, length: int) -> bool:
    step, wide = steps[inner], steps[outer]
    return step is not None and wide is not None and wide == step * length


_BINARY: tuple[tuple[type, Callable[[Any, Any], Any]], ...] = (
    (tirx.Add, np.add),
    (tirx.Sub, np.subtract),
    (tirx.Mul, np.multiply),
    (tirx.FloorDiv, np.floor_divide),
    (tirx.FloorMod, np.mod),
    (tirx.Min, np.minimum),
    (tirx.Max, np.maximum),
    (tirx.LT, np.less),
    (tirx.LE, np.less_equal),
    (tirx.GT, np.greater),
    (tirx.GE, np.greater_equal),
    (tirx.EQ, np.equal),
    (tirx.NE, np.not_equal),
    (tirx.And, np.logical_and),
    (tirx.Or, np.logical_or),
)


def evaluate(expression: Any, index: Index) -> np.ndarray:
    """The values of an expression of integers at many positions.

    Raises:
        NotMovementError: it holds something else than arithmetic and comparisons.
    """
    if isinstance(expression, tirx.IntImm):
        return np.asarray(int(expression))
    if isinstance(expression, tirx.Var):
        for variable, values in index.items():
            if variable.same_as(expression):
                return np.asarray(values)
        raise NotMovementError("an unknown variable")
    if isinstance(expression, tirx.Not):
        return np.logical_not(evaluate(expression.a, index))
    if isinstance(expression, tirx.Cast):
        return evaluate(expression.value, index)
    if isinstance(expression, Call) and analysis.call_name(expression) == "likely":
        return evaluate(expression.args[0], index)
    for kind, function in _BINARY:
        if isinstance(expression, kind):
            both: Any = expression
            return np.asarray(function(evaluate(both.a, index), evaluate(both.b, index)))
    raise NotMovementError(f"an index with {type(expression).__name__}")
