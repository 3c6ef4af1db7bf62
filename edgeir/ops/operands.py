"""Checks and conversions that the operator definitions share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim
from edgeir.ir.dtype import FLOATS, INTEGERS, numpy_dtype
from edgeir.ir.types import TensorType

Item = TypeVar("Item")

ARITHMETIC_FLOATS: frozenset[str] = frozenset(name for name in FLOATS if not name.startswith("float8"))
"""Floating-point types that operators compute with; float8 is for storage."""

ARITHMETIC_INTEGERS: frozenset[str] = INTEGERS - {"int4", "uint4"}
"""Integer types that operators compute with; the 4-bit ones are for storage."""

NUMERIC: frozenset[str] = ARITHMETIC_FLOATS | ARITHMETIC_INTEGERS
"""Types that arithmetic takes."""


def present(items: Sequence[Item | None], position: int) -> Item:
    """The operand at `position`.

    Raises:
        TypeInferenceError: it is absent.
    """
    item = optional(items, position)
    if item is None:
        raise TypeInferenceError("an operand is missing", expected=f"operand {position}", got=f"{len(items)} operands")
    return item


def optional(items: Sequence[Item | None], position: int) -> Item | None:
    """The operand at `position`, None where it is absent."""
    return items[position] if position < len(items) else None


def check_dtype(operand: str, type: TensorType, allowed: Collection[str]) -> None:
    """Checks an operand's element type.

    Raises:
        TypeInferenceError: it is not among `allowed`.
    """
    if type.dtype not in allowed:
        raise TypeInferenceError(
            f"{operand} has an element type that the operator does not take",
            expected=", ".join(sorted(allowed)),
            got=str(type),
        )


def check_same_dtype(*types: TensorType | None) -> None:
    """Checks that the operands have one element type; absent ones do not count.

    Raises:
        TypeInferenceError: they differ.
    """
    found = [type for type in types if type is not None]
    if len({type.dtype for type in found}) > 1:
        raise TypeInferenceError(
            "operands have different element types",
            expected="one element type",
            got=", ".join(map(str, found)),
            hint="insert a cast",
        )


def check_rank(operand: str, type: TensorType, minimum: int, maximum: int | None = None) -> None:
    """Checks an operand's rank.

    Raises:
        TypeInferenceError: it is less than `minimum` or more than `maximum`.
    """
    if type.rank < minimum or (maximum is not None and type.rank > maximum):
        limits = (
            f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}" if minimum != maximum else minimum
        )
        raise TypeInferenceError(f"{operand} has the wrong rank", expected=f"a rank {limits}", got=str(type))


def check_axis(axis: int, type: TensorType, attribute: str = "axis") -> None:
    """Checks that an axis, in canonical form (not negative), is one of the type.

    Raises:
        TypeInferenceError: it is not.
    """
    if not 0 <= axis < type.rank:
        raise TypeInferenceError(
            f"{attribute} is out of range", expected=f"0 ≤ {attribute} < {type.rank} for {type}", got=axis
        )


def check_shape(name: str, type: TensorType, shape: Sequence[Dim]) -> None:
    """Checks that an operand has exactly a shape.

    Raises:
        TypeInferenceError: it has another, or a symbolic one that is not provably the same.
    """
    if type.shape != tuple(shape):
        wanted = f"[{', '.join(map(str, shape))}]"
        raise TypeInferenceError(f"{name} has the wrong shape", expected=wanted, got=str(type))


def check_length(name: str, values: Sequence[Any], length: int) -> None:
    """Checks the length of a sequence attribute.

    Raises:
        TypeInferenceError: it is not `length`.
    """
    if len(values) != length:
        got = f"[{', '.join(map(str, values))}]"
        raise TypeInferenceError(f"{name} has the wrong length", expected=f"{length} values", got=got)


def static_dims(name: str, dims: Sequence[Dim]) -> tuple[int, ...]:
    """Dimensions as integers.

    Raises:
        TypeInferenceError: one is symbolic.
    """
    fixed = tuple(dim for dim in dims if isinstance(dim, int))
    if len(fixed) != len(dims):
        got = f"[{', '.join(map(str, dims))}]"
        raise TypeInferenceError(f"{name} must be fixed", got=got, hint="fix symbolic dimensions with shapes=…")
    return fixed


def check_same_dims(what: str, **types: TensorType) -> None:
    """Checks that the operands (keyword: name) have one shape.

    Raises:
        TypeInferenceError: they differ.
    """
    if len({type.shape for type in types.values()}) > 1:
        got = ", ".join(f"{name}: {type}" for name, type in types.items())
        raise TypeInferenceError(f"{what} differ", expected="one shape", got=got)


def widen(array: np.ndarray) -> np.ndarray:
    """float16 and bfloat16 as float32, in which the reference computes; other arrays as they are."""
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def saturate(array: np.ndarray, dtype: str) -> np.ndarray:
    """Whole numbers (as floats or integers) to an integer type, clamped to its range; NaN becomes 0."""
    target = numpy_dtype(dtype)
    low, high = integer_range(dtype)
    if array.dtype.kind in "iu":
        held = np.iinfo(array.dtype)
        return np.clip(array, max(low, int(held.min)), min(high, int(held.max))).astype(target)
    wide = array.astype(np.float64)
    inside = np.where(np.isnan(wide), 0.0, np.clip(wide, float(low), float(high)))
    # float(high) of 64-bit types rounds up to 2**63 or 2**64, which the conversion would wrap.
    result = inside.astype(np.uint64 if low == 0 else np.int64)
    return np.where(wide >= float(high), np.array(high, result.dtype), result).astype(target)


def integer_range(dtype: str) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    width = int("".join(filter(str.isdigit, dtype)))
    return (0, 2**width - 1) if dtype.startswith("u") else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)


def lowest(dtype: np.dtype) -> float | int:
    """The least value: −∞ for floats."""
    return -np.inf if dtype.kind not in "iu" else int(np.iinfo(dtype).min)


def highest(dtype: np.dtype) -> float | int:
    """The greatest value: +∞ for floats."""
    return np.inf if dtype.kind not in "iu" else int(np.iinfo(dtype).max)
