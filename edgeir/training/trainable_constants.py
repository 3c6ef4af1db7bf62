"""Which constants of a graph training changes."""

from __future__ import annotations

import numpy as np

from edgeir.ir.graph import Graph
from edgeir.ir.values import Node, Value

_PARAMETERS: dict[str, tuple[int, ...]] = {
    "conv": (1, 2),
    "conv_transpose": (1, 2),
    "deform_conv": (1, 3),
    "batch_norm": (1, 2),
    "layer_norm": (1, 2),
    "lstm": (1, 2, 3, 7),
    "gru": (1, 2, 3),
    "rnn": (1, 2, 3),
    "matmul": (0, 1),
    "gather": (0,),
}
"""Operands that are weights, biases, scales or tables whatever their size."""

_THROUGH: dict[str, tuple[int, ...]] = {
    "reshape": (0,),
    "transpose": (0,),
    "expand": (0,),
    "tile": (0,),
    "slice": (0,),
    "layout_cast": (0,),
    "pad": (0,),
    "cast": (0,),
    "quantize": (0,),
    "dequantize": (0,),
    "log_quantize": (0,),
    "log_dequantize": (0,),
}
"""Operators behind which a weight is still one: (operand)."""

_TERMS = frozenset({"add", "mul", "einsum", "concat"})
"""Operators of which a constant of several elements is a bias, a slope, a table of positions."""

_LARGEST = 1e4
"""Constants beyond it are masks (−10⁹ where attention must not look), not biases."""


def is_trainable(value: Value) -> bool:
    """Whether a constant is what training usually changes: weights, biases, scales and biases of normalisations.

    Scalars, bounds, statistics of batch_norm, quantization scales, attention masks, and the mean and deviation by which
    inputs are normalised are not. A weight counts behind reshape, transpose, slice, quantize and the like.
    """
    if not value.is_constant or "float" not in value.type.dtype or "float8" in value.type.dtype or not value.data.size:
        return False
    return _is_parameter(value, value.data.size > 1 and _is_moderate(value.data), set())


def _is_parameter(value: Value, may_be_term: bool, seen: set[Value]) -> bool:
    if value in seen:
        return False
    seen.add(value)
    for node, position in value.uses:
        if position in _PARAMETERS.get(node.op, ()):
            return True
        if may_be_term and node.op in _TERMS and not _normalises_input(node, value):
            return True
        if position in _THROUGH.get(node.op, ()) and _is_parameter(node.outputs[0], may_be_term, seen):
            return True
        if node.op == "fused" and _is_parameter(node.attributes["body"].inputs[position], may_be_term, seen):
            return True
    return False


def _normalises_input(node: Node, constant: Value) -> bool:
    """Whether an `add` or `mul` does nothing but shift and scale an input of the graph."""
    while node.op in ("add", "mul", "sub", "div") or node.op in _THROUGH:
        others = [value for value in node.present_inputs if value is not constant and not value.is_constant]
        if len(others) != 1:
            return False
        if others[0].is_input:
            return True
        if others[0].producer is None:
            return False
        node = others[0].producer
    return False


def _is_moderate(array: np.ndarray) -> bool:
    wide = np.abs(array.astype(np.float64))
    return bool(np.isfinite(wide).all() and wide.max(initial=0.0) < _LARGEST)


_QUANTIZERS = {"quantize": "dequantize", "log_quantize": "log_dequantize"}


def quantization_scales(graph: Graph) -> dict[str, str]:
    """Scales that fake quantization can learn: constant's name → name of the constant that holds the parameter.

    A quantize node and the dequantize nodes that read it share one scale, also where the graph has it twice.
    """
    owners: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in _QUANTIZERS and node.input(1).is_constant:
            scale = node.input(1)
            owner = owners.setdefault(scale.name, scale.name)
            for reader in _readers(node, _QUANTIZERS[node.op]):
                other = reader.input(1)
                if other.is_constant and other.digest == scale.digest:
                    owners.setdefault(other.name, owner)
    return owners


def _readers(node: Node, op: str) -> list[Node]:
    """The nodes of an operator that read the result of a quantization, directly or moved."""
    found, pending = [], [node]
    while pending:
        for user in pending.pop().outputs[0].users:
            if user.op == op:
                found.append(user)
            elif user.op in _THROUGH or user.op in ("concat", "max_pool"):
                pending.append(user)
    return found
