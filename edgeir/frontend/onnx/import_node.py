"""What a converter sees of one ONNX node, and how it adds IR nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from onnx import NodeProto

from edgeir.errors import UnsupportedModelError
from edgeir.ir import Dim, SymbolicDim, TensorType, Value
from edgeir.ir.dtype import numpy_dtype

if TYPE_CHECKING:
    from edgeir.frontend.onnx.importer import Importer


class ImportNode:
    """One ONNX node during import.

    Attributes:
        proto: the node; attribute references are resolved.
        op_type: its operator.
        domain: "" for the standard's own operators.
        opset: version of the domain that the model (or function) imports.
        inputs: operands; None where an optional one is absent.
        attributes: attribute name → Python value (numpy arrays for tensors).
        location: the node's name, for messages.
    """

    def __init__(
        self,
        importer: Importer,
        proto: NodeProto,
        domain: str,
        opset: int,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any],
        location: str,
    ) -> None:
        self._importer = importer
        self.proto = proto
        self.op_type = proto.op_type
        self.domain = domain
        self.opset = opset
        self.inputs = tuple(inputs)
        self.attributes = attributes
        self.location = location

    # Operands

    def unsupported(self, why: str) -> NoReturn:
        """Refuses the node.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError(why, where=self.location)

    def wants(self, output: int) -> bool:
        """Whether the model names this output."""
        return output < len(self.proto.output) and self.proto.output[output] != ""

    def optional(self, index: int) -> Value | None:
        """The operand at `index`, or None."""
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int) -> Value:
        """The operand at `index`, which must be there."""
        value = self.optional(index)
        if value is None:
            self.unsupported(f"input {index} is missing")
        return value

    def type(self, index: int) -> TensorType:
        """Type of an operand."""
        return self.input(index).type

    def constant(self, index: int) -> np.ndarray:
        """An operand that must be known at import."""
        value = self.input(index)
        if not value.is_constant:
            self.unsupported(f"input {index} (%{value.name}) must be constant")
        return value.data

    def optional_constant(self, index: int) -> np.ndarray | None:
        """An optional operand that must be known at import."""
        return None if self.optional(index) is None else self.constant(index)

    def dims(self, index: int) -> tuple[Dim, ...]:
        """An integer vector (or scalar) operand, possibly symbolic, that must be known at import."""
        value = self.input(index)
        known = self.known(value)
        if known is None:
            self.unsupported(f"input {index} (%{value.name}) must be constant or computed from shapes")
        return tuple(known.ravel().tolist())

    def integers(self, index: int) -> tuple[int, ...]:
        """An integer vector operand without symbols, known at import."""
        dims = self.dims(index)
        if any(isinstance(dim, SymbolicDim) for dim in dims):
            self.unsupported(f"input {index} depends on symbolic dimensions: fix them with shapes=…")
        return tuple(dim for dim in dims if isinstance(dim, int))

    def optional_integers(self, index: int) -> tuple[int, ...] | None:
        """As `integers`, or None where the operand is absent."""
        return None if self.optional(index) is None else self.integers(index)

    def known(self, value: Value) -> np.ndarray | None:
        """A constant or shape-dependent integer value as an array of dimensions."""
        return self._importer.known(value, limit=None)

    def static_shape(self, index: int, what: str = "") -> tuple[int, ...]:
        """Shape of an operand, which must not be symbolic."""
        shape = self.type(index).shape
        if not self.type(index).is_static:
            self.unsupported(f"{what or 'this form'} needs fixed sizes, got {self.type(index)}: fix with shapes=…")
        return tuple(dim for dim in shape if isinstance(dim, int))

    # Attributes

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value, or the default."""
        return self.attributes.get(name, default)

    def axis(self, axis: int, rank: int, inclusive: bool = False) -> int:
        """An axis counted from the front; `inclusive` allows the rank itself."""
        if not -rank <= axis < rank + inclusive:
            self.unsupported(f"axis {axis} is out of range for rank {rank}")
        return axis + rank if axis < 0 else axis

    # Results

    def emit(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        """Adds an IR node with one result, or its value if all operands are known."""
        return self.emit_all(op, *inputs, **attributes)[0]

    def emit_all(self, op: str, *inputs: Value | None, **attributes: Any) -> list[Value]:
        """As `emit`, for several results."""
        return self._importer.emit(op, inputs, attributes, self.location, self.stem)

    @property
    def stem(self) -> str:
        """Start of the names of values in between."""
        return next((name for name in self.proto.output if name), self.op_type)

    def constant_value(self, array: np.ndarray, dtype: str | None = None) -> Value:
        """A constant of the graph."""
        array = np.asarray(array) if dtype is None else np.asarray(array).astype(numpy_dtype(dtype))
        return self._importer.add_constant(array, f"{self.stem}.constant")

    def scalar(self, number: float, like: Value) -> Value:
        """A scalar constant in the dtype of another value."""
        return self.constant_value(np.array(number), like.type.dtype)

    def dims_value(self, dims: Sequence[Dim] | np.ndarray, shape: Sequence[int] | None = None) -> Value:
        """An int64 value that holds dimensions (a vector unless `shape` is given)."""
        return self._importer.dims_value(dims, shape, self.location, self.stem)

    # Small helpers

    def cast(self, value: Value, dtype: str) -> Value:
        """The value in another element type; itself if it has that type."""
        return value if value.type.dtype == dtype else self.emit("cast", value, dtype=dtype)

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """The value in another shape; itself if it has that shape."""
        return value if value.type.shape == tuple(shape) else self.emit("reshape", value, shape=tuple(shape))

    def transpose(self, value: Value, perm: Sequence[int]) -> Value:
        """The value with axes permuted; itself if the order is the same."""
        return value if list(perm) == list(range(len(perm))) else self.emit("transpose", value, perm=tuple(perm))

    def expand(self, value: Value, shape: Sequence[Dim]) -> Value:
        """The value broadcast to a shape; itself if it has that shape."""
        return value if value.type.shape == tuple(shape) else self.emit("expand", value, shape=tuple(shape))

    def along_axis(self, value: Value, axis: int, rank: int) -> Value:
        """A vector as a tensor of that rank along one axis, for broadcasting; a single element as a scalar."""
        if value.type.rank == 0:
            return value
        if value.type.elements == 1:
            return self.reshape(value, ())
        return self.reshape(value, [value.type.shape[0] if i == axis else 1 for i in range(rank)])

    def take(self, value: Value, axis: int, start: Dim, size: Dim, step: int = 1) -> Value:
        """A slice along one axis; the value itself if that is all of it."""
        shape = value.type.shape
        if (start, size, step) == (0, shape[axis], 1):
            return value
        starts = [start if i == axis else 0 for i in range(len(shape))]
        sizes = [size if i == axis else dim for i, dim in enumerate(shape)]
        steps = [step if i == axis else 1 for i in range(len(shape))]
        return self.emit("slice", value, starts=starts, sizes=sizes, steps=steps)
