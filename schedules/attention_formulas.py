"""Stages of a computation as formulas, which loops that are written by hand evaluate where they need an element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Range
from tvm.ir.expr import TensorLoad
from tvm.sym import Analyzer

from edgeir.schedules import analysis
from edgeir.schedules.attention_problem import AttentionStages
from edgeir.schedules.sparse_arguments import whole
from edgeir.schedules.tir_types import AnyBuffer, AnyTensor, Expression


@dataclass(frozen=True)
class Formula:
    """An element of a tensor as a function of its index.

    Attributes:
        axes: one variable per axis.
        expression: the element at `axes`.
        given: the buffer that stands for a value that is known when the element is computed, or None.
    """

    axes: tuple[Any, ...]
    expression: Expression
    given: AnyBuffer = None

    def at(self, index: Sequence[Any], given: Expression = None) -> Expression:
        """The element at an index.

        Args:
            index: one expression per axis.
            given: the value that `self.given` stands for.
        """
        result = substituted(self.expression, self.axes, index)
        if self.given is None:
            return result

        def load(access: Any) -> Any:
            return given if access.source.same_as(self.given) else access

        return tvm_ffi.structural_map(result, ((TensorLoad, load),))

    def contiguous(self, axis: int) -> bool:
        """Whether every load walks memory one by one along an axis, or does not move."""
        loads = [n for n in analysis.nodes(self.expression) if isinstance(n, TensorLoad)]
        variable = self.axes[axis]
        for load in loads:
            moves = any(analysis.uses(index, variable) for index in load.indices)
            access = analysis.Access(load.source, tuple(load.indices))
            if moves and analysis.contiguous_axis(access, [variable]) is None:
                return False
        return bool(loads)

    def in_place(self, axis: int) -> bool:
        """Whether elements along an axis can be read in vectors where they lie: one contiguous load gives them."""
        return isinstance(self.expression, TensorLoad) and self.contiguous(axis)

    def vector(self, index: Sequence[Any], lanes: int) -> Expression:
        """`lanes` elements from an index on, along an axis that is `in_place`."""
        load: Any = self.at(index)
        *rest, last = load.indices
        ramp: Any = tirx.Ramp(last, tirx.IntImm("int32", 1), whole(lanes))
        return tirx.BufferLoad(load.source, [*rest, ramp])


def substituted(expression: Expression, variables: Sequence[Any], values: Sequence[Any]) -> Expression:
    """The expression with values for variables."""

    def swap(variable: Any) -> Any:
        for own, value in zip(variables, values, strict=True):
            if variable.same_as(own):
                return tirx.IntImm("int32", value) if isinstance(value, int) else value
        return variable

    return tvm_ffi.structural_map(expression, ((tirx.Var, swap),))


def formula(tensor: AnyTensor, buffers: Mapping[AnyTensor, AnyBuffer], given: AnyBuffer = None) -> Formula:
    """The formula of a tensor's elements in terms of buffers.

    Args:
        tensor: a stage without reductions.
        buffers: placeholder → its buffer.
        given: as in `Formula`; one of the buffers.
    """
    analyzer, axes = Analyzer(), []
    for position, extent in enumerate(tensor.shape):
        variable = tirx.Var(f"i{position}", "int32")
        analyzer.bind(variable, Range.from_min_extent(whole(0), whole(int(extent))))
        axes.append(variable)

    def element(stage: AnyTensor, index: Sequence[Any]) -> Expression:
        if stage in buffers:
            return tirx.BufferLoad(buffers[stage], [analyzer.simplify(tirx.convert(i)) for i in index])
        body = substituted(stage.op.body[0], [axis.var for axis in stage.op.axis], list(index))

        def load(call: Call) -> Expression:
            if analysis.call_name(call) != "tensor_load":
                return call
            source, *inner = list(call.args)
            return element(source, inner)

        return tvm_ffi.structural_map(body, ((Call, load),))

    return Formula(tuple(axes), element(tensor, axes), given)


def multiplied(expression: Expression) -> Expression:
    """x / c as x · (1/c) for numbers c, which differs in the last bit unless c is a power of two."""

    def multiply(division: tirx.Div) -> Expression:
        divisor: Any = division.b
        if str(division.ty) != "float32" or not isinstance(divisor, tirx.FloatImm) or float(divisor) == 0:
            return division
        return division.a * tirx.const(1.0 / float(divisor), "float32")

    return tvm_ffi.structural_map(expression, ((tirx.Div, multiply),))


def stage_formulas(stages: AttentionStages, parameters: Sequence[AnyBuffer]) -> dict[str, Formula]:
    """The formulas of `query`, `key`, `value` and `logits` over the buffers of a function's parameters."""
    buffers = dict(zip(stages.placeholders, parameters[: len(stages.placeholders)], strict=True))
    scores = tirx.decl_buffer([int(d) for d in stages.scores.shape], "float32", "scores")
    found = {name: formula(getattr(stages, name), buffers) for name in ("query", "key", "value")}
    logits = formula(stages.logits, {**buffers, stages.scores: scores}, scores)
    found["logits"] = Formula(logits.axes, multiplied(logits.expression), scores)
    return found
