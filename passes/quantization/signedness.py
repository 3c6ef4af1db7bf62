"""Activations as the integers that the target multiplies fastest.

The dot products of x86 (`vpmaddubsw`, `vpdpbusd`) take unsigned times signed bytes, those of ARM and of CUDA (`dp4a`,
tensor cores) signed times signed ones. quantize(x, s, z: int8) → quantize(x, s, z + 128: uint8), with all that reads
it, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeir.ir import Graph, Node, Value
from edgeir.ir.dtype import numpy_dtype

_MOVES = frozenset(
    ("reshape", "transpose", "slice", "expand", "tile", "gather", "resize", "max_pool", "reduce_max", "reduce_min")
)
_ZERO_OF = {"dequantize": 2, "conv_integer": 3, "matmul_integer": 2}
"""Readers whose operand 0 has a zero point of its own, and where that is."""


def activation_dtype(target: Any) -> str | None:
    """`uint8` or `int8` as the target prefers; None where it does not matter."""
    if target is None:
        return None
    if target.gpu is not None:
        return "int8" if target.kind == "cuda" else None
    if target.architecture in ("x86_64", "x86"):
        return "uint8"
    return "int8" if target.architecture in ("aarch64", "arm") else None


def change_signedness(graph: Graph, dtype: str, permit: Callable[[Node], bool]) -> None:
    """Gives every quantized activation that the graph itself makes and reads the element type `dtype`.

    Inputs of the graph keep theirs and are converted where they are multiplied.

    Args:
        graph: the graph, edited in place.
        dtype: `int8` or `uint8`.
        permit: asked once; the activations depend on each other, so all are changed or none.
    """
    old = "int8" if dtype == "uint8" else "uint8"
    offset = 128 if dtype == "uint8" else -128
    changed = _changeable(graph, old)
    made: dict[Value, Value] = {}
    inputs_too = [value for value in graph.inputs if value.type.dtype == old and _feeds_products(value)]
    first = next(iter(graph.nodes), None)
    if first is None or not (changed or inputs_too) or not permit(first):
        return
    for value in inputs_too:
        # The upper bit turned is 128 more or less, without a carry.
        bit = graph.add_constant(np.array(128, np.uint8).astype(numpy_dtype(old)), "upper_bit")
        turned = graph.add_node("bitwise_xor", [value, bit], before=first).output
        made[value] = graph.add_node("bit_cast", [turned], {"dtype": dtype}, before=first).output

    computed: dict[Value, Value] = {}

    def shifted(zero: Value | None, before: Node, name: str = "zero_point") -> Value:
        if zero is not None and not zero.is_constant:
            # Of an input that is quantized over its own range, known when the graph runs.
            if zero not in computed:
                wide = graph.add_node("cast", [zero], {"dtype": "int32"}, before=before).output
                moved = graph.add_node("add", [wide, graph.add_constant(np.int32(offset))], before=before).output
                computed[zero] = graph.add_node("cast", [moved], {"dtype": dtype}, before=before).output
            return computed[zero]
        data = np.zeros((), np.int64) if zero is None else zero.data.astype(np.int64)
        return graph.add_constant((data + offset).astype(numpy_dtype(dtype)), name if zero is None else zero.name)

    for node in list(graph.nodes):
        if node.outputs[0] in changed:
            if node.op == "quantize":
                inputs = [*node.inputs[:2], shifted(node.input(2), node)]
                attributes = {**node.attributes, "dtype": None}
            else:
                inputs = [made.get(value, value) if value is not None else None for value in node.inputs]
                attributes = dict(node.attributes)
            new = graph.add_node(
                *(node.op, inputs, attributes), names=[node.output.name], before=node, location=node.location
            )
            made[node.output] = new.output
        elif node.op in _ZERO_OF and node.input(0) in made:
            index = _ZERO_OF[node.op]
            inputs = [*node.inputs, *[None] * (index + 1 - len(node.inputs))]
            inputs[0], inputs[index] = made[node.input(0)], shifted(inputs[index], node)
            new = graph.add_node(
                *(node.op, inputs, node.attributes), names=[node.output.name], before=node, location=node.location
            )
            graph.replace_all_uses(node.output, new.output)
    _erase_unused(graph)


def _feeds_products(value: Value) -> bool:
    """Whether all readers of an input of the graph have zero points, and some multiply it by weights."""
    if value.is_output or not _readers_follow(value, set()):
        return False
    products = ("conv", "matmul")
    return any(
        user.op != "dequantize" or any(reader.op in products for reader in user.output.users) for user in value.users
    )


def _erase_unused(graph: Graph) -> None:
    for node in list(graph.reversed_nodes):
        if not any(value.is_used for value in node.outputs):
            graph.erase(node)
    graph.remove_unused_constants()


def _changeable(graph: Graph, dtype: str) -> set[Value]:
    """Values of that element type all of whose writers and readers can be changed with them."""
    found: set[Value] = set()
    for node in graph.nodes:
        value = node.outputs[0]
        if value.type.dtype != dtype or value.is_output or len(node.outputs) != 1:
            continue
        if node.op == "quantize":
            if not node.input(0).is_constant:
                found.add(value)
        elif node.op == "concat":
            if all(operand in found for operand in node.present_inputs):
                found.add(value)
        elif node.op in _MOVES and node.input(0) in found:
            found.add(value)
    # A value stays only if all its readers go along; that may end it for what they read beside it.
    while True:
        wrong = {value for value in found if not _readers_follow(value, found) or not _operands_follow(value, found)}
        if not wrong:
            return found
        found -= wrong


def _readers_follow(value: Value, found: set[Value]) -> bool:
    for user, operand in value.uses:
        if user.op in _ZERO_OF:
            if operand != 0:
                return False
        elif user.outputs[0] not in found or (user.op != "concat" and operand != 0):
            return False
    return True


def _operands_follow(value: Value, found: set[Value]) -> bool:
    node: Node | None = value.producer
    assert node is not None
    if node.op == "quantize":
        return True
    operands = node.present_inputs if node.op == "concat" else (node.input(0),)
    return all(operand in found for operand in operands)
