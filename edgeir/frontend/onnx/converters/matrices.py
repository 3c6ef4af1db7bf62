"""Matrix products."""

from __future__ import annotations

from edgeir.frontend.onnx.converters.convolution import centered
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ir.dtype import FLOATS


@converter("MatMul")
def matmul(node: ImportNode) -> Value:
    """numpy.matmul."""
    return multiply(node, node.input(0), node.input(1))


def multiply(node: ImportNode, a: Value, b: Value) -> Value:
    """numpy.matmul, vectors as matrices of one row or column."""
    if a.type.rank == 0 or b.type.rank == 0:
        node.unsupported(f"a scalar operand: {a.type}, {b.type}")
    vector_a, vector_b = a.type.rank == 1, b.type.rank == 1
    left = node.reshape(a, (1, *a.type.shape)) if vector_a else a
    right = node.reshape(b, (*b.type.shape, 1)) if vector_b else b
    y = node.emit("matmul", left, right)
    shape = y.type.shape
    batch = shape[:-2]
    return node.reshape(y, (*batch, *(() if vector_a else shape[-2:-1]), *(() if vector_b else shape[-1:])))


@converter("MatMulInteger")
def matmul_integer(node: ImportNode) -> Value:
    """Product of int8 or uint8 matrices in int32, zero points subtracted."""
    a, b = integer_matrices(node, 0, 2, 1, 3)
    return multiply(node, a, b)


def integer_matrices(node: ImportNode, a: int, a_zero: int, b: int, b_zero: int) -> tuple[Value, Value]:
    """Both operands in int32, zero points subtracted: those of a per row, those of b per column."""
    rows = max(node.type(a).rank - 2, 0)
    return centered(node, a, a_zero, rows), centered(node, b, b_zero, node.type(b).rank - 1)


@converter("Gemm")
def gemm(node: ImportNode) -> Value:
    """alpha·A·B + beta·C."""
    a, b, c = node.input(0), node.input(1), node.optional(2)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if a.type.rank != 2 or b.type.rank != 2:
        node.unsupported(f"operands must be matrices, got {a.type} and {b.type}")
    y = node.emit(
        "matmul", a, b, transpose_a=bool(node.attribute("transA", 0)), transpose_b=bool(node.attribute("transB", 0))
    )
    y = _scaled(node, y, alpha)
    if c is None or beta == 0:
        return y
    return node.emit("add", y, _scaled(node, c, beta))


def _scaled(node: ImportNode, value: Value, factor: float) -> Value:
    if factor == 1:
        return value
    if value.type.dtype not in FLOATS and factor != int(factor):
        node.unsupported(f"a factor of {factor} on integers")
    return node.emit("mul", value, node.scalar(factor, value))


@converter("Einsum")
def einsum(node: ImportNode) -> Value:
    """Einstein summation."""
    return node.emit("einsum", *node.inputs, equation=node.attribute("equation").replace(" ", ""))
