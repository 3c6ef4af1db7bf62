"""Turns recurrent layers into one product for all inputs and, step by step, products of the state.

    %y, %h, %c = lstm(%x, %w, %r, %b) {hidden_size = 8, …} : float32[2, 1, 1, 8], float32[1, 1, 8], float32[1, 1, 8]

becomes, per direction,

    %all = add(matmul(reshape(%x), w, transpose_b), bias)
    for each step: gates = add(matmul(h, r, transpose_b), slice(%all)); h, c = elementwise work on slices of gates
    %y = concat(h of each step)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from edgeir.ir import Graph, Node, Value
from edgeir.ops.recurrent import GATE_COUNTS, directions, gates
from edgeir.passes.decomposition.arithmetic import Arithmetic
from edgeir.passes.decomposition.recurrent_cells import CELLS, State, Weights
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, op

FEW_STEPS = 32
"""More steps than these make more kernels than a loop over them could cost."""


class UnrollRule(RewriteRule):
    """lstm, gru or rnn → operators for every step."""

    name = "unroll-recurrent"
    pattern = op(("lstm", "gru", "rnn"))

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def check(self, match: Match) -> str | None:
        """The number of steps must be known, and not too large."""
        steps = match.root.input(0).type.shape[0]
        if not isinstance(steps, int):
            return "the number of steps is symbolic"
        return None if 0 < steps <= self.max_steps else f"more than {self.max_steps} steps, or none"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Unrolls all directions and puts their results side by side."""
        node = match.root
        dtype = node.input(0).type.dtype
        a = Arithmetic.single(rewriter, dtype)
        layer = _Layer(node, a)
        ys: list[Value] = []
        lasts: list[list[Value]] = [[] for _ in node.outputs[1:]]
        for direction in range(directions(node.attributes)):
            y, state = layer.unroll(direction)
            ys.append(y)
            for collected, value in zip(lasts, state, strict=True):
                collected.append(a.reshape(value, 1, *value.type.shape))
        results = [a.concat(ys, 1), *(a.concat(values, 0) for values in lasts)]
        rewriter.replace(*(a.cast(value, dtype) for value in results))


class _Layer:
    """The operands of a recurrent layer, in the arithmetic's element type."""

    def __init__(self, node: Node, a: Arithmetic) -> None:
        self.node = node
        self.a = a
        self.attributes = node.attributes
        self.hidden: int = node.attributes["hidden_size"]
        self.rows = GATE_COUNTS[node.op] * self.hidden
        x = node.input(0)
        self.steps, self.batch, size = x.type.shape
        assert isinstance(self.steps, int)
        self.x = a.reshape(a.cast(x, a.dtype), self.steps * self.batch, size)
        self.live = self._live_steps()

    def operand(self, index: int) -> Value | None:
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return value if value is None or index == 4 else self.a.cast(value, self.a.dtype)

    def of_direction(self, index: int, direction: int) -> Value | None:
        """The part of an operand (D, …) that belongs to a direction."""
        value = self.operand(index)
        if value is None:
            return None
        return self.a.reshape(self.a.part(value, 0, direction, 1), *value.type.shape[1:])

    def _live_steps(self) -> list[Value] | None:
        """For each step, which sequences (B, 1) have not ended; None where none ends early."""
        lengths = self.operand(4)
        assert isinstance(self.steps, int)
        if lengths is None or (lengths.is_constant and bool((lengths.data >= self.steps).all())):
            return None
        column = self.a.reshape(lengths, self.batch, 1)
        steps = [self.a.rewriter.constant(np.array(step, np.int32), "step") for step in range(self.steps)]
        return [self.a("less", step, column) for step in steps]

    def weights(self, direction: int) -> Weights:
        a = self.a
        w, r = self.of_direction(1, direction), self.of_direction(2, direction)
        assert r is not None
        b = self.of_direction(3, direction)
        input_bias = state_bias = None
        if b is not None:
            input_bias, recurrent_bias = a.part(b, 0, 0, self.rows), a.part(b, 0, self.rows, self.rows)
            if self.node.op == "gru" and self.attributes["linear_before_reset"]:
                # The reset gate multiplies this bias too, so it cannot join the input's.
                state_bias = a.part(recurrent_bias, 0, 2 * self.hidden, self.hidden)
                first, last = (
                    a.part(input_bias, 0, *box) for box in ((0, 2 * self.hidden), (2 * self.hidden, self.hidden))
                )
                first = a("add", first, a.part(recurrent_bias, 0, 0, 2 * self.hidden))
                input_bias = a.concat([first, last], 0)
            else:
                input_bias = a("add", input_bias, recurrent_bias)
        p = self.of_direction(7, direction)
        peepholes: Any = None if p is None else tuple(a.part(p, 0, k * self.hidden, self.hidden) for k in range(3))
        return Weights(w, r, input_bias, state_bias, peepholes)

    def unroll(self, direction: int) -> tuple[Value, list[Value]]:
        """Y (T, 1, B, H) and the last state, each (B, H), of one direction."""
        a, attributes = self.a, self.attributes
        assert isinstance(self.steps, int)
        weights = self.weights(direction)
        if weights.w is None:
            projected = a.part(self.x, 1, direction * self.rows, self.rows)
        else:
            projected = a("matmul", self.x, weights.w, transpose_b=True)
        if weights.input_bias is not None:
            projected = a("add", projected, weights.input_bias)
        cell = CELLS[self.node.op](a, weights, gates(attributes, direction), attributes)
        count = len(self.node.outputs) - 1
        state: State = tuple(self.of_direction(5 + k, direction) for k in range(count))
        backward = direction == 1 or attributes["direction"] == "reverse"
        ys: list[Value] = []
        for step in reversed(range(self.steps)) if backward else range(self.steps):
            x = a.part(projected, 0, step * self.batch, self.batch) if self.steps > 1 else projected
            new = cell.step(x, state)
            y = new[0]
            if self.live is not None:
                live = self.live[step]
                y = a("where", live, y, 0.0)
                new = tuple(
                    a("where", live, after, 0.0 if before is None else before)
                    for after, before in zip(new, state, strict=True)
                )
            state = new
            ys.append(a.reshape(y, 1, 1, self.batch, self.hidden))
        return a.concat(ys[::-1] if backward else ys, 0), [value for value in state if value is not None]


@register_pass
@dataclass(frozen=True)
class UnrollRecurrent(Pass):
    """Unrolls lstm, gru and rnn layers with a known number of steps.

    Attributes:
        max_steps: layers with more steps stay as they are.
    """

    name: ClassVar[str] = "unroll-recurrent"
    max_steps: int = 512

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        context.apply(graph, (UnrollRule(self.max_steps),))

    def alternatives(self, graph: Graph, context: PassContext) -> tuple[Pass, ...]:
        """Unrolls layers of few steps, which this pass leaves in one piece."""
        steps = [node.input(0).type.shape[0] for node in graph.nodes if node.op in CELLS]
        found = {count for count in steps if isinstance(count, int) and self.max_steps < count <= FEW_STEPS}
        return tuple(replace(self, max_steps=count) for count in sorted(found))
