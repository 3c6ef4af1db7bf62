"""Matrix products and sums of products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, constant
from edgeir.lowering.compute.registry import Call, compute
from edgeir.ops.matmul import parse_equation


@compute("matmul")
def matmul(call: Call) -> te.Tensor:
    """numpy.matmul on ranks ≥ 2; either operand may be given transposed."""
    return product_sums(call, lambda a, b, _: a * b)


def product_sums(call: Call, multiply: Callable[[Expression, Expression, Expression], Expression]) -> te.Tensor:
    """A matrix product, named after its operator.

    Args:
        call: the operator.
        multiply: gives the product of an element of the left and of the right operand, in the result's dtype, given
            the column.
    """
    a, b = call.tensor(0), call.tensor(1)
    shape_a, shape_b, out = call.shape(0), call.shape(1), call.output_shape
    transpose_a, transpose_b = bool(call.attributes["transpose_a"]), bool(call.attributes["transpose_b"])
    depth = shape_a[-2] if transpose_a else shape_a[-1]
    if depth == 0:
        return te.compute(out, lambda *_: constant(0, call.dtype), name=call.op)
    k = te.reduce_axis((0, depth), name="k")

    def batch(index: Any, shape: tuple[int, ...]) -> list[Any]:
        tail = index[len(out) - len(shape) : len(out) - 2]
        return [0 if extent == 1 else i for i, extent in zip(tail, shape[:-2], strict=True)]

    def body(*index: Any) -> Expression:
        row, column = index[-2], index[-1]
        left = a(*batch(index, shape_a), *((k, row) if transpose_a else (row, k)))
        right = b(*batch(index, shape_b), *((column, k) if transpose_b else (k, column)))
        return te.sum(multiply(left, right, column), axis=k)

    return te.compute(out, body, name=call.op)


@compute("einsum")
def einsum(call: Call) -> te.Tensor:
    """numpy.einsum: products of elements, summed over the indices that the result lacks."""
    types = [call.type(i) for i in range(len(call.types))]
    terms, result = parse_equation(call.attributes["equation"], [t.rank for t in types])
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        for letter, extent in zip(term, call.shape(index), strict=True):
            sizes[letter] = max(sizes.get(letter, 1), extent) if extent else 0
    summed = [letter for letter in sizes if letter not in result]
    if any(sizes[letter] == 0 for letter in summed):
        return te.compute(call.output_shape, lambda *_: constant(0, call.dtype), name="einsum")
    axes = {letter: te.reduce_axis((0, sizes[letter]), name=f"r{i}") for i, letter in enumerate(summed)}

    def body(*index: Any) -> Expression:
        at = dict(zip(result, index, strict=True)) | axes
        product: Expression = None
        for operand, term in enumerate(terms):
            shape = call.shape(operand)
            factor = call.tensor(operand)(*[0 if e == 1 else at[s] for s, e in zip(term, shape, strict=True)])
            product = factor if product is None else product * factor
        return te.sum(product, axis=list(axes.values())) if axes else product

    return te.compute(call.output_shape, body, name="einsum")
