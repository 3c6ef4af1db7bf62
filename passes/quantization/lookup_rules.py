"""Functions of one quantized tensor as tables.

quantize(f(dequantize(q, s, z)), t, u) → lookup(q, table), table[i] = quantize(f(dequantize(i, s, z)), t, u).
"""

from __future__ import annotations

import numpy as np

from edgeir.ir import Graph, Node, Pattern, TensorType, Value
from edgeir.ir.clone import copy_node
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.ops.operands import integer_range
from edgeir.passes.quantization.affine import BYTES
from edgeir.rewrite import Match, Rewriter, RewriteRule, op

COSTLY = frozenset(
    (
        *("sigmoid", "tanh", "exp", "log", "sqrt", "erf", "pow", "div", "reciprocal", "lookup"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"),
    )
)
"""Operators that take longer than reading a table."""

MOST_CHEAP = 12
"""Chains of more cheap operators take longer than reading a table, too."""

MOST_NODES = 64


class ToLookup(RewriteRule):
    """quantize(f(dequantize(q))) → lookup(q, table), exactly: the table is f on every value of q's type."""

    name = "to-lookup"
    pattern = op(("quantize", "lookup"))

    def check(self, match: Match) -> str | None:
        """One 8-bit tensor must determine the result, and f must be worth a table."""
        node = match.root
        if node.output.type.dtype not in BYTES:
            return "the result is not of 8-bit integers"
        region = _Region(node.output)
        source = region.source
        if source is None or source.is_constant or region.failed:
            return "it is no function of one tensor of 8-bit integers"
        if set(region.nodes) == {node} and node.op == "lookup":
            return "it is a table already"
        if not any(inner.op in COSTLY for inner in region.nodes) and len(region.nodes) <= MOST_CHEAP:
            return "it is cheaper to compute"
        return None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Evaluates the function on all values."""
        region = _Region(match.root.output)
        assert region.source is not None
        table = rewriter.constant(region.tabulate(), "table")
        rewriter.replace(rewriter.add("lookup", region.source, table))


class _Region:
    """The elementwise operators by which a value is computed from one 8-bit tensor of its shape and scalar constants.

    Attributes:
        source: the tensor; None if there is none, or more than one.
        nodes: the operators, producers first.
    """

    def __init__(self, value: Value) -> None:
        self.value = value
        self.nodes: dict[Node, None] = {}
        self.failed = False
        self._known: dict[Value, Value | None] = {}
        assert value.producer is not None
        self.source = self._through(value.producer, value.type)

    def _source(self, value: Value) -> Value | None:
        """What an operand is a function of; None where it is a constant."""
        if value not in self._known:
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: Value) -> Value | None:
        if value.is_constant:
            self.failed |= value.data.size != 1
            return None
        if value.type.shape != self.value.type.shape or len(self.nodes) > MOST_NODES:
            self.failed = True
            return None
        producer = value.producer
        if value.type.dtype in BYTES:
            # It may itself be a function of an earlier 8-bit tensor; if not, it is the source.
            nodes = dict(self.nodes)
            found = None if producer is None else self._through(producer, value.type)
            if found is not None and not self.failed:
                return found
            self.nodes, self.failed = nodes, False
            return value
        if producer is None:
            self.failed = True
            return None
        return self._through(producer, value.type)

    def _through(self, node: Node, type: TensorType) -> Value | None:
        definition = node.definition
        if definition.pattern is not Pattern.ELEMENTWISE or len(node.outputs) != 1 or node.op == "layout_cast":
            self.failed = True
            return None
        # The table of a lookup is no operand that broadcasts.
        operands = node.present_inputs[:1] if node.op == "lookup" else node.present_inputs
        if node.op == "lookup" and not node.input(1).is_constant:
            self.failed = True
            return None
        sources = {source for value in operands if (source := self._source(value)) is not None}
        if self.failed or len(sources) != 1:
            self.failed = True
            return None
        self.nodes[node] = None
        return sources.pop()

    def tabulate(self) -> np.ndarray:
        """The value for every number of the source's type, in ascending order."""
        assert self.source is not None
        dtype = self.source.type.dtype
        low, high = integer_range(dtype)
        shape = (high - low + 1,)
        graph = Graph("table")
        mapping: dict[Value, Value] = {self.source: graph.add_input("x", TensorType(dtype, shape))}
        for node in self.nodes:
            for value in node.present_inputs:
                if value.is_constant and value not in mapping:
                    array = value.data if node.op == "lookup" and value is node.input(1) else value.data.reshape(())
                    mapping[value] = graph.add_constant(array, value.name)
            copy_node(graph, node, mapping)
        graph.set_outputs({"y": mapping[self.value]})
        return evaluate(graph, {"x": np.arange(low, high + 1).astype(numpy_dtype(dtype))})["y"]


LOOKUP_RULES: tuple[RewriteRule, ...] = (ToLookup(),)
