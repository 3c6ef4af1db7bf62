"""One step of lstm, gru and rnn as plain operators; the formulas are those of the ONNX operator specification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeir.ir import Value
from edgeir.ops.recurrent import Gate
from edgeir.passes.decomposition.arithmetic import Arithmetic
from edgeir.passes.decomposition.recurrent_activations import activate

State = tuple[Value | None, ...]
"""What a step hands to the next, each (B, H); None is zero."""


@dataclass(frozen=True)
class Weights:
    """One direction's parameters.

    Attributes:
        w: input weights (G·H, I), or None where the input is the product with them.
        r: state weights (G·H, H).
        input_bias: what is added to the input's product (G·H), or None.
        state_bias: what is added to the last gate's state product before it is reset (H), or None (gru only).
        peepholes: the three (H) of an lstm: input, output, forget; or None.
    """

    w: Value | None
    r: Value
    input_bias: Value | None
    state_bias: Value | None = None
    peepholes: tuple[Value, Value, Value] | None = None


class Cell(ABC):
    """One step, for one direction."""

    def __init__(
        self, arithmetic: Arithmetic, weights: Weights, functions: Sequence[Gate], attributes: Mapping[str, Any]
    ) -> None:
        self.a = arithmetic
        self.weights = weights
        self.functions = functions
        self.attributes = attributes
        self.hidden: int = attributes["hidden_size"]

    @abstractmethod
    def step(self, x: Value, state: State) -> tuple[Value, ...]:
        """The new state.

        Args:
            x: this step's input times the input weights, plus bias: (B, G·H).
            state: h, and for lstm c.
        """

    def gate(self, x: Value, index: int) -> Value:
        """(B, H): one gate of (B, G·H)."""
        return self.a.part(x, 1, index * self.hidden, self.hidden)

    def function(self, index: int, x: Value) -> Value:
        """Limits x if asked, and activates it."""
        bound = self.attributes["clip"]
        if bound is not None:
            x = self.a("clip", x, minimum=-bound, maximum=bound)
        return activate(self.a, self.functions[index], x)

    def recur(self, h: Value | None, x: Value, weights: Value) -> Value:
        """x + h·weightsᵀ."""
        return x if h is None else self.a("add", self.a("matmul", h, weights, transpose_b=True), x)


class LstmCell(Cell):
    """c′ = f·c + i·g; h′ = o·tanh(c′)."""

    def step(self, x: Value, state: State) -> tuple[Value, ...]:
        """(h, c) → (h, c)."""
        a = self.a
        h, c = state
        gates = self.recur(h, x, self.weights.r)
        i = self.function(0, self._peek(self.gate(gates, 0), 0, c))
        if self.attributes["input_forget"]:
            forget = a("sub", 1.0, i)
        else:
            forget = self.function(0, self._peek(self.gate(gates, 2), 2, c))
        candidate = a("mul", i, self.function(1, self.gate(gates, 3)))
        cell = candidate if c is None else a("add", a("mul", forget, c), candidate)
        o = self.function(0, self._peek(self.gate(gates, 1), 1, cell))
        return a("mul", o, activate(a, self.functions[2], cell)), cell

    def _peek(self, gate: Value, which: int, cell: Value | None) -> Value:
        if self.weights.peepholes is None or cell is None:
            return gate
        return self.a("add", gate, self.a("mul", cell, self.weights.peepholes[which]))


class GruCell(Cell):
    """h′ = (1 − z)·g + z·h."""

    def step(self, x: Value, state: State) -> tuple[Value, ...]:
        """(h) → (h)."""
        a, size = self.a, self.hidden
        (h,) = state
        rows = self.weights.r
        both = self.recur(h, a.part(x, 1, 0, 2 * size), a.part(rows, 0, 0, 2 * size))
        z, reset = self.function(0, self.gate(both, 0)), self.function(0, self.gate(both, 1))
        last = self.gate(x, 2)
        last_rows = a.part(rows, 0, 2 * size, size)
        if self.attributes["linear_before_reset"]:
            bias = self.weights.state_bias
            product = None if h is None else a("matmul", h, last_rows, transpose_b=True)
            if product is not None and bias is not None:
                product = a("add", product, bias)
            product = bias if product is None else product
            candidate = last if product is None else a("add", last, a("mul", reset, product))
        else:
            candidate = self.recur(None if h is None else a("mul", reset, h), last, last_rows)
        new = a("mul", a("sub", 1.0, z), self.function(1, candidate))
        return (new if h is None else a("add", new, a("mul", z, h)),)


class RnnCell(Cell):
    """h′ = f(x + h·rᵀ)."""

    def step(self, x: Value, state: State) -> tuple[Value, ...]:
        """(h) → (h)."""
        return (self.function(0, self.recur(state[0], x, self.weights.r)),)


CELLS: dict[str, type[Cell]] = {"lstm": LstmCell, "gru": GruCell, "rnn": RnnCell}
