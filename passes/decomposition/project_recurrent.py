"""Multiplies the inputs of recurrent layers with their weights before the layer, for all steps at once.

    %y, %h, %c = lstm(%x, %w, %r, %b) {hidden_size = 8, …} : float32[2, 1, 1, 8], float32[1, 1, 8], float32[1, 1, 8]

becomes

    %all = add(matmul(reshape(%x), reshape(%w), transpose_b), bias)
    %y, %h, %c = lstm(reshape(%all), _, %r) {hidden_size = 8, …} : …

The layer that is left runs over all steps in one kernel. Of its bias a gru keeps what it resets
(`linear_before_reset`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeir.ir import Graph, Value
from edgeir.ops.recurrent import GATE_COUNTS, directions
from edgeir.passes.decomposition.arithmetic import Arithmetic
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, op

_WEIGHTS, _BIAS, _LENGTHS = 1, 3, 4


class ProjectRule(RewriteRule):
    """lstm, gru or rnn → a product, and the layer without its input weights."""

    name = "project-recurrent"
    pattern = op(("lstm", "gru", "rnn"))

    def check(self, match: Match) -> str | None:
        """The layer has its input weights."""
        return "the inputs have been multiplied" if match.root.inputs[_WEIGHTS] is None else None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """One product for all steps and directions."""
        node = match.root
        dtype = node.input(0).type.dtype
        a = Arithmetic.single(rewriter, dtype)
        operands: list[Any] = [
            value if value is None or index == _LENGTHS else a.cast(value, a.dtype)
            for index, value in enumerate(node.inputs)
        ]
        x, w = operands[0], operands[_WEIGHTS]
        steps, batch, size = x.type.shape
        hidden = node.attributes["hidden_size"]
        rows = directions(node.attributes) * GATE_COUNTS[node.op] * hidden
        product = a("matmul", a.reshape(x, steps * batch, size), a.reshape(w, rows, size), transpose_b=True)
        b = operands[_BIAS] if len(operands) > _BIAS else None
        if b is not None:
            reset = hidden if node.op == "gru" and node.attributes["linear_before_reset"] else 0
            before, operands[_BIAS] = _split_bias(a, b, reset)
            product = a("add", product, a.reshape(before, rows))
        operands[0], operands[_WEIGHTS] = a.reshape(product, steps, batch, rows), None
        layer = rewriter.node(node.op, *operands, **node.attributes)
        rewriter.replace(*(a.cast(value, dtype) for value in layer.outputs))


def _split_bias(a: Arithmetic, b: Value, reset: int) -> tuple[Value, Value | None]:
    """What can be added to the inputs' products (D, G·H), and what the layer keeps (D, 2·G·H), if anything.

    Args:
        a: adds operators.
        b: the biases (D, 2·G·H).
        reset: how many of the last biases of the state a gru resets.
    """
    count, both = b.type.shape
    assert isinstance(count, int) and isinstance(both, int)
    rows = both // 2
    of_input, of_state = a.part(b, 1, 0, rows), a.part(b, 1, rows, rows)
    if not reset:
        return a("add", of_input, of_state), None
    free = rows - reset
    summed = a("add", a.part(of_input, 1, 0, free), a.part(of_state, 1, 0, free))
    zeros = a.rewriter.constant(np.zeros((count, rows + free), np.dtype(a.dtype)), "zeros")
    kept = a.concat([zeros, a.part(of_state, 1, free, reset)], 1)
    return a.concat([summed, a.part(of_input, 1, free, reset)], 1), kept


@register_pass
@dataclass(frozen=True)
class ProjectRecurrent(Pass):
    """Takes the input weights out of lstm, gru and rnn layers; the number of steps may be symbolic."""

    name: ClassVar[str] = "project-recurrent"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        context.apply(graph, (ProjectRule(),))
