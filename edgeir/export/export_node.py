"""What an exporter sees: one IR node, and how to write ONNX for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.export.dimensions import Dimensions
from edgeir.export.element_types import carrier, element_code
from edgeir.export.writer import Writer
from edgeir.ir import Dim, Node, TensorType, Value
from edgeir.ir.dtype import numpy_dtype


class ExportNode:
    """One node on its way to ONNX.

    Args:
        node: the IR node.
        writer: the ONNX graph.
        dimensions: writes dimensions.
        name_of: the ONNX name of an operand.
    """

    def __init__(self, node: Node, writer: Writer, dimensions: Dimensions, name_of: Callable[[Value], str]) -> None:
        self.node = node
        self.writer = writer
        self._dimensions = dimensions
        self._name_of = name_of

    @property
    def op(self) -> str:
        """The IR operator's name."""
        return self.node.op

    def attribute(self, name: str) -> Any:
        """An attribute's value."""
        return self.node.attributes[name]

    def has(self, position: int) -> bool:
        """Whether an operand is there."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def input(self, position: int) -> str:
        """The name of an operand; "" where it is absent."""
        return self._name_of(self.node.input(position)) if self.has(position) else ""

    @property
    def inputs(self) -> list[str]:
        """The names of all operands; "" for absent ones."""
        return [self.input(position) for position in range(len(self.node.inputs))]

    def value(self, position: int) -> Value:
        """An operand that must be there."""
        return self.node.input(position)

    def type(self, position: int = 0) -> TensorType:
        """The type of an operand."""
        return self.node.input(position).type

    @property
    def output_type(self) -> TensorType:
        """The type of the first result."""
        return self.node.outputs[0].type

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds an ONNX node with one result."""
        return self.writer.node(op_type, inputs, **attributes)

    def emit_all(self, op_type: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Adds an ONNX node with `count` results."""
        names = [self.writer.fresh(f"{op_type.lower()}_out") for _ in range(count)]
        return self.writer.nodes_of(op_type, inputs, names, **attributes)

    def constant(self, data: Any, dtype: str = "int64") -> str:
        """An initializer of the given numbers."""
        return self.writer.constant(np.asarray(data).astype(numpy_dtype(dtype)))

    def dims(self, dims: Sequence[Dim]) -> str:
        """An int64 vector of dimensions."""
        return self._dimensions.vector(dims)

    def cast(self, name: str, source: str, target: str) -> str:
        """The value with another element type; itself where that is the same."""
        return name if source == target else self.emit("Cast", name, to=element_code(target))

    def widened(self, op_type: str, inputs: Sequence[str], positions: Sequence[int], **attributes: Any) -> str:
        """An operator with one result of its operands' element type, computed in a wider one where it must be.

        Args:
            op_type: the ONNX operator.
            inputs: names of its operands.
            positions: which of the operands have the element type of the IR node's result.
            attributes: the ONNX attributes.
        """
        dtype = self.output_type.dtype
        wide = carrier(op_type, dtype, positions[0])
        operands = [self.cast(n, dtype, wide) if n and i in positions else n for i, n in enumerate(inputs)]
        return self.cast(self.emit(op_type, *operands, **attributes), wide, dtype)

    def unsupported(self, why: str, hint: str | None = None) -> EdgeIRError:
        """The error for a node that ONNX cannot express."""
        return EdgeIRError(f"{self.op} cannot be exported to ONNX: {why}", where=str(self.node), hint=hint)
