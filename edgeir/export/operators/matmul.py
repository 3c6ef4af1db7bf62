"""Products of matrices, and Einstein summation."""

from __future__ import annotations

from edgeir.export.element_types import allowed_types
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter


@exporter("matmul")
def matmul(node: ExportNode) -> str:
    """MatMul; a transposed matrix of rank 2 by Gemm, others by Transpose."""
    flags = [node.attribute("transpose_a"), node.attribute("transpose_b")]
    flat = node.type(0).rank == node.type(1).rank == 2
    if any(flags) and flat and node.type().dtype in allowed_types("Gemm"):
        a, b = node.inputs
        return node.emit("Gemm", a, b, transA=int(flags[0]) or None, transB=int(flags[1]) or None)
    operands = [_swapped(node, position) if flag else node.input(position) for position, flag in enumerate(flags)]
    return node.widened("MatMul", operands, [0, 1])


def _swapped(node: ExportNode, position: int) -> str:
    value = node.value(position)
    if value.is_constant:
        return node.writer.constant(value.data.swapaxes(-1, -2), f"{value.name}_transposed")
    rank = value.type.rank
    return node.emit("Transpose", node.input(position), perm=[*range(rank - 2), rank - 1, rank - 2])


@exporter("einsum")
def einsum(node: ExportNode) -> str:
    """Einsum."""
    inputs = node.inputs
    # The schema has one variadic operand, so every operand has the type of the first.
    return node.emit("Einsum", *inputs, equation=node.attribute("equation"))
