"""Matrix products."""

from __future__ import annotations

from edgeir.frontend.onnx.converters.convolution import centered, zero_point
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ir.dtype import FLOATS
from edgeir.ops.integer import ACTIVATIONS


@converter("MatMul")
def matmul(node: ImportNode) -> Value:
    """numpy.matmul."""
    return multiply(node, node.input(0), node.input(1))


def multiply(node: ImportNode, a: Value, b: Value, *zeros: Value | None, op: str = "matmul") -> Value:
    """numpy.matmul by `matmul` or `matmul_integer`, vectors as matrices of one row or column."""
    if a.type.rank == 0 or b.type.rank == 0:
        node.unsupported(f"a scalar operand: {a.type}, {b.type}")
    vector_a, vector_b = a.type.rank == 1, b.type.rank == 1
    left = node.reshape(a, (1, *a.type.shape)) if vector_a else a
    right = node.reshape(b, (*b.type.shape, 1)) if vector_b else b
    y = node.emit(op, left, right, *zeros)
    shape = y.type.shape
    batch = shape[:-2]
    return node.reshape(y, (*batch, *(() if vector_a else shape[-2:-1]), *(() if vector_b else shape[-1:])))


@converter("MatMulInteger")
def matmul_integer(node: ImportNode) -> Value:
    """Product of int8 or uint8 matrices in int32, zero points subtracted."""
    return multiply_integers(node, (0, 2), (1, 3))


def multiply_integers(node: ImportNode, a: tuple[int, int], b: tuple[int, int]) -> Value:
    """Sums of products in int32; `a` and `b` are the positions of the operands and of their zero points.

    Zero points of a may differ per row, those of b per column.
    """
    left, right = node.input(a[0]), node.input(b[0])
    zeros = [zero_point(node, position) for position in (a[1], b[1])]
    plain = left.type.dtype in ACTIVATIONS and right.type.dtype in ACTIVATIONS
    columns = zeros[1] is None or zeros[1].type.rank == 0 or zeros[1].type.shape == right.type.shape[-1:]
    if plain and (zeros[0] is None or zeros[0].type.rank == 0) and columns:
        return multiply(node, left, right, *zeros, op="matmul_integer")
    rows = max(left.type.rank - 2, 0)
    return multiply(node, centered(node, *a, rows), centered(node, *b, right.type.rank - 1))


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
