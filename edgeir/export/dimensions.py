"""Dimensions as ONNX values: constants where they are fixed, computed from the shapes of inputs where symbolic."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Dim, SymbolicDim, Value

if TYPE_CHECKING:
    from edgeir.export.writer import Writer


class Dimensions:
    """Writes dimensions as int64 vectors of one element each, every symbol once.

    Args:
        writer: where nodes go.
        inputs: the graph's inputs, whose shapes give the symbols.
    """

    def __init__(self, writer: Writer, inputs: Sequence[tuple[str, Value]]) -> None:
        self._writer = writer
        self._inputs = inputs
        self._known: dict[str, str] = {}

    def vector(self, dims: Sequence[Dim]) -> str:
        """An int64 vector of dimensions.

        Raises:
            EdgeIRError: a symbol cannot be found from the inputs' shapes.
        """
        fixed = [dim for dim in dims if isinstance(dim, int)]
        if len(fixed) == len(dims):
            return self._writer.constant(np.array(fixed, np.int64), "dims")
        parts = [self.single(dim) for dim in dims]
        return parts[0] if len(parts) == 1 else self._writer.node("Concat", parts, axis=0)

    def single(self, dim: Dim) -> str:
        """An int64 vector of one dimension."""
        if isinstance(dim, int):
            return self._writer.constant(np.array([dim], np.int64), "dim")
        text = str(dim)
        if text not in self._known:
            # The text of a dimension is a Python expression of names, integers, +, -, * and //.
            self._known[text] = self._expression(ast.parse(text, mode="eval").body)
        return self._known[text]

    def _expression(self, tree: ast.expr) -> str:
        match tree:
            case ast.Constant(value=int(number)):
                return self._writer.constant(np.array([number], np.int64), "dim")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._writer.node("Neg", [self._expression(operand)])
            case ast.BinOp(left=left, op=operator, right=right):
                a, b = self._expression(left), self._expression(right)
                match operator:
                    case ast.Add():
                        return self._writer.node("Add", [a, b])
                    case ast.Sub():
                        return self._writer.node("Sub", [a, b])
                    case ast.Mult():
                        return self._writer.node("Mul", [a, b])
                    case ast.FloorDiv():
                        # Div truncates; less the remainder, which Mod rounds down, the division is exact.
                        return self._writer.node(
                            "Div", [self._writer.node("Sub", [a, self._writer.node("Mod", [a, b])]), b]
                        )
            case ast.Name() | ast.Attribute():
                return self._symbol(ast.unparse(tree))
        raise EdgeIRError("dimension cannot be written to ONNX", got=ast.unparse(tree))

    def _symbol(self, name: str) -> str:
        if name in self._known:
            return self._known[name]
        for wanted in ((1, 0), None):
            for text, value in self._inputs:
                for axis, dim in enumerate(value.type.shape):
                    form = dim.linear() if isinstance(dim, SymbolicDim) else None
                    if form is not None and form[0] == name and wanted in (None, form[1:]):
                        return self._known.setdefault(name, self._solve(text, axis, form[1], form[2]))
        raise EdgeIRError("a symbolic dimension is in no input's shape", got=name, hint="fix it with shapes=…")

    def _solve(self, source: str, axis: int, factor: int, offset: int) -> str:
        size = self._writer.node("Shape", [source], start=axis, end=axis + 1)
        if offset:
            size = self._writer.node("Sub", [size, self.single(offset)])
        return size if factor == 1 else self._writer.node("Div", [size, self.single(factor)])
