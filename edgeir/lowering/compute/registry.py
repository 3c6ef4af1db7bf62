"""The table of computations: operator name → function that lays it out in TE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.ir.dims import SymbolicDim
from edgeir.ir.types import TensorType
from edgeir.lowering import te
from edgeir.lowering.compute.expressions import constant
from edgeir.lowering.compute.tables import Tables


@dataclass(frozen=True)
class Call:
    """One operator applied to tensors.

    Attributes:
        op: operator name.
        tensors: the operands in their physical shapes; None where one is absent, or where it is a scalar constant.
        types: the operands' types; None where one is absent.
        scalars: for operands that are constants of one element, their arrays.
        attributes: canonical attributes.
        outputs: the types of the results.
        tables: where to put constant arrays that the computation reads.
        stored: the first result's element type in memory, where the computation is asked for a wider one.
    """

    op: str
    tensors: Sequence[te.Tensor | None]
    types: Sequence[TensorType | None]
    scalars: Sequence[np.ndarray | None]
    attributes: Mapping[str, Any]
    outputs: Sequence[TensorType]
    tables: Tables
    stored: str = ""

    def type(self, index: int) -> TensorType:
        """The type of the operand at `index`, which must be there."""
        found = self.types[index]
        assert found is not None
        return found

    def has(self, index: int) -> bool:
        """Whether the operand at `index` is there."""
        return index < len(self.types) and self.types[index] is not None

    def tensor(self, index: int) -> te.Tensor:
        """The operand at `index` as a tensor of its physical shape."""
        tensor = self.tensors[index]
        if tensor is not None:
            return tensor
        scalar = self.scalars[index]
        assert scalar is not None
        value = constant(scalar.reshape(()).item(), scalar.dtype.name)
        return te.compute(physical(self.type(index)), lambda *_: value, name=f"scalar{index}")

    def shape(self, index: int) -> tuple[int, ...]:
        """The physical shape of the operand at `index`."""
        return physical(self.type(index))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The physical shape of the first result."""
        return physical(self.outputs[0])

    @property
    def dtype(self) -> str:
        """The element type of the first result."""
        return self.outputs[0].dtype

    def integers(self, name: str) -> tuple[int, ...]:
        """An attribute of dimensions, all of which must be fixed."""
        return tuple(fixed(item, self.op) for item in self.attributes[name])


Compute = Callable[[Call], te.Tensor | list[te.Tensor]]
_TABLE: dict[str, Compute] = {}


def compute(*names: str) -> Callable[[Compute], Compute]:
    """Decorator: the function lays out these operators."""

    def add(function: Compute) -> Compute:
        for name in names:
            if name in _TABLE:
                raise EdgeIRError("an operator has two computations", got=name)
            _TABLE[name] = function
        return function

    return add


def computed_ops() -> frozenset[str]:
    """The operators that can be lowered."""
    return frozenset(_TABLE)


def find_compute(name: str) -> Compute:
    """The computation of an operator.

    Raises:
        UnsupportedModelError: it has none.
    """
    if name not in _TABLE:
        raise UnsupportedModelError("operator cannot be compiled", got=name)
    return _TABLE[name]


def physical(type: TensorType) -> tuple[int, ...]:
    """The physical shape as integers.

    Raises:
        EdgeIRError: a dimension is symbolic.
    """
    return tuple(fixed(dim, str(type)) for dim in type.physical_shape())


def fixed(dim: object, where: str) -> int:
    """A dimension as an integer.

    Raises:
        EdgeIRError: it is symbolic.
    """
    if isinstance(dim, SymbolicDim) or not isinstance(dim, int):
        raise EdgeIRError(
            "compiling needs fixed dimensions", where=where, got=dim, hint="fix symbolic dimensions with shapes=…"
        )
    return dim
