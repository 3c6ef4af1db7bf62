"""Products of matrices, and Einstein summation."""

from __future__ import annotations

import string

import torch

from edgeir.ops.matmul import parse_equation
from edgeir.training.torch_ops.registry import Call, Results, reference, torch_op


@torch_op("matmul")
def matmul(call: Call) -> Results:
    """`torch.matmul` of the operands, transposed as asked; integers by the reference."""
    a, b = call.tensor(0), call.tensor(1)
    if not a.is_floating_point():
        return reference(call)
    left = a.mT if call.attributes["transpose_a"] else a
    right = b.mT if call.attributes["transpose_b"] else b
    return torch.matmul(left, right)


@torch_op("einsum")
def einsum(call: Call) -> Results:
    """`torch.einsum` of the equation with every axis named."""
    tensors = call.tensors()
    if not tensors[0].is_floating_point():
        return reference(call)
    terms, result = parse_equation(call.attributes["equation"], [tensor.ndim for tensor in tensors])
    used = set("".join(terms)) | set(result)
    spare = iter(letter for letter in string.ascii_letters if letter not in used)
    # Digits stand for the axes under `...`.
    names = {label: next(spare) if label.isdigit() else label for label in sorted(used)}
    table = str.maketrans(names)
    return torch.einsum(f"{','.join(terms)}->{result}".translate(table), *tensors)
