"""Checks of operands and attributes, with messages that name the operator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim
from edgeir.ir.types import TensorType

Item = TypeVar("Item")


def operand(inputs: Sequence[Item | None], position: int) -> Item:
    """The operand at `position`.

    Raises:
        TypeInferenceError: it is absent.
    """
    item = optional(inputs, position)
    if item is None:
        raise TypeInferenceError("an operand is missing", expected=f"operand {position}", got=f"{len(inputs)} operands")
    return item


def optional(inputs: Sequence[Item | None], position: int) -> Item | None:
    """The operand at `position`, None where it is absent."""
    return inputs[position] if position < len(inputs) else None


def static_dims(op: str, name: str, dims: Sequence[Dim]) -> tuple[int, ...]:
    """Dimensions as integers.

    Raises:
        TypeInferenceError: one is symbolic.
    """
    fixed = tuple(dim for dim in dims if isinstance(dim, int))
    if len(fixed) != len(dims):
        got = f"[{', '.join(map(str, dims))}]"
        raise TypeInferenceError(f"{op}: {name} must be fixed", got=got, hint="fix symbolic dimensions with shapes=…")
    return fixed


def check_length(op: str, name: str, values: Sequence[Any], length: int) -> None:
    """Checks the length of a sequence attribute.

    Raises:
        TypeInferenceError: it is not `length`.
    """
    if len(values) != length:
        got = f"[{', '.join(map(str, values))}]"
        raise TypeInferenceError(f"{op}: {name} has the wrong length", expected=f"{length} values", got=got)


def check_axis(op: str, axis: int, rank: int) -> None:
    """Checks that an axis is one of `rank` axes.

    Raises:
        TypeInferenceError: it is not.
    """
    if not 0 <= axis < rank:
        raise TypeInferenceError(f"{op}: axis is out of range", expected=f"0 ≤ axis < {rank}", got=axis)


def check_rank(op: str, name: str, type: TensorType, minimum: int, maximum: int = -1) -> None:
    """Checks an operand's rank; a maximum of −1 does not limit.

    Raises:
        TypeInferenceError: it is less than `minimum` or more than `maximum`.
    """
    if type.rank < minimum or (maximum >= 0 and type.rank > maximum):
        limits = f"at least {minimum}" if maximum < 0 else f"{minimum} to {maximum}"
        raise TypeInferenceError(f"{op}: {name} has the wrong rank", expected=f"rank {limits}", got=str(type))


def check_dtype(op: str, name: str, type: TensorType, allowed: Collection[str]) -> None:
    """Checks an element type.

    Raises:
        TypeInferenceError: it is not among `allowed`.
    """
    if type.dtype not in allowed:
        raise TypeInferenceError(
            f"{op}: {name} has an element type that the operator does not take",
            expected=", ".join(sorted(allowed)),
            got=str(type),
        )


def check_same_dtype(op: str, types: Sequence[TensorType]) -> None:
    """Checks that all types have one element type.

    Raises:
        TypeInferenceError: they differ.
    """
    if len({type.dtype for type in types}) > 1:
        got = ", ".join(map(str, types))
        raise TypeInferenceError(f"{op}: operands have different element types", expected="one element type", got=got)


def check_shape(op: str, name: str, type: TensorType, shape: Sequence[Dim]) -> None:
    """Checks that an operand has exactly a shape.

    Raises:
        TypeInferenceError: it has another, or a symbolic one that is not provably the same.
    """
    if type.shape != tuple(shape):
        wanted = f"[{', '.join(map(str, shape))}]"
        raise TypeInferenceError(f"{op}: {name} has the wrong shape", expected=wanted, got=str(type))
