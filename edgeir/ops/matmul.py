"""Products of matrices, and Einstein summation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim, product
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.broadcasting import broadcast_shapes
from edgeir.ops.operands import NUMERIC, check_dtype, check_rank, check_same_dtype, present, widen


def _swapped(shape: Sequence[Dim], swap: bool) -> tuple[Dim, ...]:
    return (*shape[:-2], shape[-1], shape[-2]) if swap else tuple(shape)


@register
class Matmul(Op):
    """a·b over the last two axes, each transposed first if asked; leading axes broadcast.

    Operands: a (*batch, M, K) or transposed (*batch, K, M), b (*batch, K, N) or transposed; one numeric dtype, which
    the result (*batch, M, N) has too.
    """

    name = "matmul"
    operands = ("a", "b")
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "transpose_a": Attribute(Kind.BOOL, False),
        "transpose_b": Attribute(Kind.BOOL, False),
    }
    pattern = Pattern.ANCHOR

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """(*batch, M, N)."""
        a, b = present(inputs, 0), present(inputs, 1)
        check_dtype("a", a, NUMERIC)
        check_same_dtype(a, b)
        check_rank("a", a, 2)
        check_rank("b", b, 2)
        left, right = _swapped(a.shape, attributes["transpose_a"]), _swapped(b.shape, attributes["transpose_b"])
        if left[-1] != right[-2]:
            raise TypeInferenceError(
                "inner dimensions differ", expected=f"{left[-1]} rows in b for a: {a}", got=f"{right[-2]} in b: {b}"
            )
        return [TensorType(a.dtype, (*broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1]))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy.matmul."""
        a, b = present(inputs, 0), present(inputs, 1)
        left = widen(a).swapaxes(-1, -2) if attributes["transpose_a"] else widen(a)
        right = widen(b).swapaxes(-1, -2) if attributes["transpose_b"] else widen(b)
        return [np.matmul(left, right).astype(a.dtype)]

    def macs(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Dim:
        """Output elements times K."""
        a = present(inputs, 0)
        return outputs[0].elements * _swapped(a.shape, attributes["transpose_a"])[-1]


def parse_equation(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Splits an Einstein summation into one string of axis labels per operand and one for the result.

    `...` becomes digits, aligned from the right as in broadcasting; without `->` the result has the broadcast axes
    and then, in alphabetical order, the labels that occur once.

    Raises:
        TypeInferenceError: the equation is malformed or does not fit the ranks.
    """
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise TypeInferenceError("equation and operands differ in number", expected=f"{len(ranks)} terms", got=equation)
    for term in [*terms, right]:
        letters = term.replace("...", "", 1)
        if letters and not (letters.isascii() and letters.isalpha()):
            raise TypeInferenceError("malformed equation", expected="letters, '...', ',' and '->'", got=equation)
    spare = [rank - len(term.replace("...", "")) for rank, term in zip(ranks, terms, strict=True)]
    for rank, term, extra in zip(ranks, terms, spare, strict=True):
        if extra < 0 or (extra > 0 and "..." not in term):
            raise TypeInferenceError(
                "equation does not fit the ranks", expected=f"rank {rank} for {term!r}", got=equation
            )
    most = max((extra for term, extra in zip(terms, spare, strict=True) if "..." in term), default=0)
    if most > 10:
        raise TypeInferenceError("too many axes under '...'", expected="at most 10", got=most)
    digits = "0123456789"[:most]
    labels = [term.replace("...", digits[most - extra :]) for term, extra in zip(terms, spare, strict=True)]
    if arrow:
        result = right.replace("...", digits)
        if len(set(result)) != len(result) or not set(result) <= set("".join(labels)):
            raise TypeInferenceError(
                "malformed result term", expected="labels of the operands, each once", got=equation
            )
    else:
        joined = "".join(labels)
        result = digits + "".join(sorted(c for c in set(joined) if c.isalpha() and joined.count(c) == 1))
    return labels, result


@register
class Einsum(Op):
    """Einstein summation over any number of operands; ONNX Einsum: letters, `...`, implicit or explicit result."""

    name = "einsum"
    operands = ("inputs*",)
    attributes: ClassVar[Mapping[str, Attribute]] = {"equation": Attribute(Kind.STR)}
    pattern = Pattern.OPAQUE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The dimensions of the result's labels."""
        types = [present(inputs, position) for position in range(len(inputs))]
        for position, type in enumerate(types):
            check_dtype(f"operand {position}", type, NUMERIC)
        check_same_dtype(*types)
        dims, result = _label_dims(types, attributes["equation"])
        return [TensorType(types[0].dtype, tuple(dims[label] for label in result))]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """numpy.einsum."""
        arrays = [widen(present(inputs, position)) for position in range(len(inputs))]
        result = np.einsum(attributes["equation"].replace(" ", ""), *arrays)
        return [np.asarray(result).astype(present(inputs, 0).dtype)]

    def macs(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Dim:
        """The product of all labels' dimensions, times the operands beyond the first; 0 for a single operand."""
        types = [present(inputs, position) for position in range(len(inputs))]
        dims, _ = _label_dims(types, attributes["equation"])
        return product(dims.values()) * (len(types) - 1)


def _label_dims(types: Sequence[TensorType], equation: str) -> tuple[dict[str, Dim], str]:
    labels, result = parse_equation(equation, [type.rank for type in types])
    dims: dict[str, Dim] = {}
    for term, type in zip(labels, types, strict=True):
        for label, dim in zip(term, type.shape, strict=True):
            (dims[label],) = broadcast_shapes((dims.get(label, 1),), (dim,))
    return dims, result
