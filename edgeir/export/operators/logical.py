"""Comparison, logic and bits of elements."""

from __future__ import annotations

from edgeir.export.element_types import carrier
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter
from edgeir.ir.dtype import UNSIGNED

_COMPARISONS = {
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}
_LOGIC = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not"}
_BITS = {
    "bitwise_and": "BitwiseAnd",
    "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor",
    "bitwise_not": "BitwiseNot",
}


@exporter(*_COMPARISONS)
def compare(node: ExportNode) -> str:
    """The comparison; its result is bool."""
    op_type, dtype = _COMPARISONS[node.op], node.type().dtype
    wide = carrier(op_type, dtype)
    return node.emit(op_type, *(node.cast(name, dtype, wide) for name in node.inputs))


@exporter(*_LOGIC, *_BITS)
def logic(node: ExportNode) -> str:
    """The operator of the same meaning."""
    return node.emit((_LOGIC | _BITS)[node.op], *node.inputs)


@exporter("shift_left", "shift_right")
def shift(node: ExportNode) -> str:
    """BitShift, which takes unsigned numbers: a negative one is shifted right through its complement."""
    dtype, amount_dtype = node.type(0).dtype, node.type(1).dtype
    unsigned = dtype if dtype in UNSIGNED else f"u{dtype}"
    x, amount = node.input(0), node.cast(node.input(1), amount_dtype, unsigned)
    if node.op == "shift_left":
        shifted = node.emit("BitShift", node.cast(x, dtype, unsigned), amount, direction="LEFT")
        return node.cast(shifted, unsigned, dtype)
    if dtype == unsigned:
        return node.emit("BitShift", x, amount, direction="RIGHT")
    negative = node.emit("Less", x, node.constant(0, dtype))
    magnitude = node.emit("Where", negative, node.emit("BitwiseNot", x), x)
    shifted = node.emit("BitShift", node.cast(magnitude, dtype, unsigned), amount, direction="RIGHT")
    shifted = node.cast(shifted, unsigned, dtype)
    return node.emit("Where", negative, node.emit("BitwiseNot", shifted), shifted)


@exporter("is_nan")
def is_nan(node: ExportNode) -> str:
    """IsNaN."""
    dtype = node.type().dtype
    return node.emit("IsNaN", node.cast(node.input(0), dtype, carrier("IsNaN", dtype)))


@exporter("is_inf")
def is_inf(node: ExportNode) -> str:
    """IsInf."""
    dtype = node.type().dtype
    x = node.cast(node.input(0), dtype, carrier("IsInf", dtype))
    signs = {name: int(node.attribute(name)) for name in ("detect_negative", "detect_positive")}
    return node.emit("IsInf", x, **signs)
