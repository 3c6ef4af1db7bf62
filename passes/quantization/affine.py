"""Reading quantized values and their parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeir.ir import Node, Value

BYTES = frozenset({"int8", "uint8"})
"""Element types of quantized activations."""


@dataclass(frozen=True)
class Affine:
    """What a `dequantize` reads: (q − zero)·scale.

    Attributes:
        q: the integers.
        scale: their scale.
        zero: their zero point; None for 0.
    """

    q: Value
    scale: Value
    zero: Value | None

    @property
    def is_scalar(self) -> bool:
        """Whether one scale and one zero point hold for all elements."""
        return is_single(self.scale) and (self.zero is None or is_single(self.zero))

    @property
    def is_positive(self) -> bool:
        """Whether the scale is a constant above zero, so that order is kept."""
        return self.scale.is_constant and bool((self.scale.data > 0).all())

    @property
    def parameters(self) -> tuple[Value, ...]:
        """Scale and, where there is one, zero point."""
        return (self.scale,) if self.zero is None else (self.scale, self.zero)


def is_single(value: Value) -> bool:
    """Whether a value has one element."""
    return value.type.elements == 1


def affine_of(node: Node) -> Affine:
    """The operands of a `dequantize`."""
    return Affine(node.input(0), node.input(1), node.inputs[2] if len(node.inputs) > 2 else None)


def dequantized(value: Value | None) -> Affine | None:
    """What a value is the dequantization of; None if it is none."""
    producer = None if value is None else value.producer
    return affine_of(producer) if producer is not None and producer.op == "dequantize" else None


def zero_number(zero: Value | None) -> int | None:
    """A constant zero point of one element as an integer, 0 where it is absent; None if it is anything else."""
    if zero is None:
        return 0
    return int(zero.data.reshape(())) if zero.is_constant and zero.data.size == 1 else None


def same_value(a: Value | None, b: Value | None) -> bool:
    """Whether two parameters are the same; an absent one is 0."""
    if a is b:
        return True
    if a is None or b is None:
        present = b if a is None else a
        return present is not None and present.is_constant and not present.data.any()
    if not (a.is_constant and b.is_constant) or a.type.dtype != b.type.dtype:
        return False
    if a.data.size == b.data.size == 1:
        return bool(a.data.reshape(()) == b.data.reshape(()))
    return a.data.shape == b.data.shape and bool(np.array_equal(a.data, b.data))


def same_parameters(a: Affine, b: Affine) -> bool:
    """Whether equal integers stand for equal numbers in both."""
    return a.q.type.dtype == b.q.type.dtype and same_value(a.scale, b.scale) and same_value(a.zero, b.zero)
