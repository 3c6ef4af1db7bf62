"""Elementwise functions, comparisons and logic: mostly one IR operator for one of ONNX."""

from __future__ import annotations

from functools import reduce

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value

_UNARY = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "BitwiseNot": "bitwise_not",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "IsNaN": "is_nan",
    "Log": "log",
    "Neg": "neg",
    "Not": "logical_not",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}

_BINARY = {
    "Add": "add",
    "And": "logical_and",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "Div": "div",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Mul": "mul",
    "Or": "logical_or",
    "Pow": "pow",
    "Sub": "sub",
    "Xor": "logical_xor",
}

_VARIADIC = {"Max": "maximum", "Min": "minimum", "Sum": "add"}


@converter(*_UNARY)
def unary(node: ImportNode) -> Value:
    """A function of one operand."""
    return node.emit(_UNARY[node.op_type], node.input(0))


@converter(*_BINARY)
def binary(node: ImportNode) -> Value:
    """A function of two operands."""
    return node.emit(_BINARY[node.op_type], node.input(0), node.input(1))


@converter(*_VARIADIC)
def variadic(node: ImportNode) -> Value:
    """A function of any number of operands, from the left."""
    operands = [node.input(index) for index in range(len(node.inputs))]
    return reduce(lambda a, b: node.emit(_VARIADIC[node.op_type], a, b), operands)


@converter("Mean")
def mean(node: ImportNode) -> Value:
    """The mean of the operands, element by element."""
    operands = [node.input(index) for index in range(len(node.inputs))]
    total = reduce(lambda a, b: node.emit("add", a, b), operands)
    return total if len(operands) == 1 else node.emit("div", total, node.scalar(len(operands), total))


@converter("Mod")
def mod(node: ImportNode) -> Value:
    """Remainder: sign of the divisor, or of the dividend with fmod."""
    return node.emit("mod", node.input(0), node.input(1), fmod=bool(node.attribute("fmod", 0)))


@converter("BitShift")
def bit_shift(node: ImportNode) -> Value:
    """Shift by b bits."""
    directions = {"LEFT": "shift_left", "RIGHT": "shift_right"}
    direction = node.attribute("direction")
    if direction not in directions:
        node.unsupported(f"unknown direction {direction!r}")
    return node.emit(directions[direction], node.input(0), node.input(1))


@converter("IsInf")
def is_inf(node: ImportNode) -> Value:
    """Where x is infinite."""
    return node.emit(
        "is_inf",
        node.input(0),
        detect_negative=bool(node.attribute("detect_negative", 1)),
        detect_positive=bool(node.attribute("detect_positive", 1)),
    )


@converter("Where")
def where(node: ImportNode) -> Value:
    """condition ? a : b."""
    return node.emit("where", node.input(0), node.input(1), node.input(2))
