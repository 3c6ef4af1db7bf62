"""Operators of the IR as torch functions, by name."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from edgeir.errors import EdgeIRError
from edgeir.ir.types import TensorType
from edgeir.ir.values import Node
from edgeir.training.tensor_conversion import held_dtype, to_array, to_tensor


class Representation(enum.Enum):
    """How a floating tensor stands for a quantized one, so that gradients pass through it."""

    INTEGERS = "integers"
    """The floats are the whole numbers that `quantize` computes."""
    POWERS = "powers"
    """The floats are what the codes of `log_quantize` stand for with B = 1: 0 and ±2^e."""


@dataclass(frozen=True)
class RunState:
    """What the operators need to know about the module that runs them.

    Attributes:
        precision: the torch dtype that stands for float32.
        device: where tensors are made.
        training: whether the module is in training mode.
        batch_statistics: whether `batch_norm` normalises with the batch's statistics in training mode.
        momentum: weight of the batch's statistics in the running ones.
        learned_scales: names of quantization scales that are parameters.
        weights: names of values that depend on constants only.
    """

    precision: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    training: bool = False
    batch_statistics: bool = False
    momentum: float = 0.1
    learned_scales: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Call:
    """One execution of a node whose dimensions are fixed: its operands as tensors."""

    node: Node
    inputs: tuple[Tensor | None, ...]
    state: RunState

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The node's attributes."""
        return self.node.attributes

    def tensor(self, position: int) -> Tensor:
        """The operand at `position`.

        Raises:
            EdgeIRError: it is absent.
        """
        found = self.optional(position)
        if found is None:
            raise EdgeIRError("an operand is missing", where=str(self.node), expected=f"operand {position}")
        return found

    def optional(self, position: int) -> Tensor | None:
        """The operand at `position`, None where it is absent."""
        return self.inputs[position] if position < len(self.inputs) else None

    def tensors(self) -> list[Tensor]:
        """All operands, which must be there."""
        return [self.tensor(position) for position in range(len(self.inputs))]

    def type(self, position: int) -> TensorType:
        """The IR type of the operand at `position`."""
        return self.node.input(position).type

    def dtype(self, name: str) -> torch.dtype:
        """The torch dtype of an IR element type in this module."""
        return held_dtype(name, self.state.precision)


Results: TypeAlias = "Tensor | tuple[Tensor, ...]"
TorchFunction: TypeAlias = Callable[[Call], Results]
_EVERY = frozenset(Representation)


@dataclass(frozen=True)
class TorchOp:
    """How torch computes an operator.

    Attributes:
        function: the computation.
        gradient: whether gradients pass from floating results to floating operands.
        accepts: representations of quantized tensors that the function takes; others become integers before.
        keeps: whether the result has the representation of the operands `data`.
        moves: whether elements are only moved: any representation goes through, and nothing is rounded.
        data: positions of the operands whose elements the result has; None for all.
        any_dtype: whether it takes types that torch hardly computes with (float8, wide unsigned integers).
    """

    function: TorchFunction
    gradient: bool = True
    accepts: frozenset[Representation] = frozenset()
    keeps: bool = False
    moves: bool = False
    data: tuple[int, ...] | None = None
    any_dtype: bool = False


_OPS: dict[str, TorchOp] = {}


def torch_op(
    *names: str,
    gradient: bool = True,
    accepts: frozenset[Representation] = frozenset(),
    keeps: bool = False,
    moves: bool = False,
    data: tuple[int, ...] | None = None,
    any_dtype: bool = False,
) -> Callable[[TorchFunction], TorchFunction]:
    """Decorator: the function computes these operators (see `TorchOp`); operators that move elements accept all."""

    def register(function: TorchFunction) -> TorchFunction:
        for name in names:
            if name in _OPS:
                raise EdgeIRError("a torch function of this operator exists", got=name)
            accepted = _EVERY if moves else accepts
            _OPS[name] = TorchOp(function, gradient, accepted, keeps or moves, moves, data, any_dtype)
        return function

    return register


def reference(call: Call) -> tuple[Tensor, ...]:
    """The reference evaluator's results, on detached tensors: no gradient passes."""
    arrays = [
        None if tensor is None else to_array(tensor, call.type(position).dtype)
        for position, tensor in enumerate(call.inputs)
    ]
    with np.errstate(all="ignore"):
        results = call.node.definition.evaluate(arrays, call.attributes)
    return tuple(
        to_tensor(array).to(call.state.device, call.dtype(value.type.dtype))
        for value, array in zip(call.node.outputs, results, strict=True)
    )


REFERENCE = TorchOp(reference, gradient=False, any_dtype=True)
"""What computes operators that have no torch function."""


def find_torch_op(name: str) -> TorchOp:
    """How torch computes an operator; through the reference evaluator where nothing is registered."""
    return _OPS.get(name, REFERENCE)


def torch_ops() -> frozenset[str]:
    """The operators that have a torch function."""
    return frozenset(_OPS)


def differentiable_ops() -> frozenset[str]:
    """The operators that gradients pass through."""
    return frozenset(name for name, op in _OPS.items() if op.gradient)
