"""A recurrent layer as its template sees it: sizes, gates, operands, and in which order its products are made.

Shapes: T steps, B sequences, H hidden units, D directions, G gates. Operands by name: `x` (T, B, D·G·H), the inputs'
products; `r` (D, G·H, H); and where they are given `bias` (D, 2·G·H), `lengths` int32 (B), `h` and `c` (D, B, H),
`peephole` (D, 3·H).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GateFunction:
    """An activation function of ONNX by its name in lower case, and its parameters."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True)
class Recurrence:
    """A recurrent layer whose inputs have been multiplied with their weights.

    Attributes:
        cell: `lstm`, `gru` or `rnn`.
        steps, batch, hidden: T, B, H.
        backward: for each direction, whether it begins with the last step.
        functions: for each direction, the activation functions f, g, h (as many as the cell has).
        clip: bound of what the functions are given, or None.
        coupled: lstm: the forget gate is 1 − i.
        linear_before_reset: gru: the reset gate multiplies the product with the state, not the state.
        operands: names of the operands that are given, in order.
    """

    cell: str
    steps: int
    batch: int
    hidden: int
    backward: tuple[bool, ...]
    functions: tuple[tuple[GateFunction, ...], ...]
    clip: float | None
    coupled: bool
    linear_before_reset: bool
    operands: tuple[str, ...]

    @property
    def directions(self) -> int:
        """Number of directions, D."""
        return len(self.backward)

    @property
    def gates(self) -> int:
        """Number of gates, G."""
        return {"lstm": 4, "gru": 3, "rnn": 1}[self.cell]

    @property
    def phases(self) -> tuple[tuple[int, ...], ...]:
        """The gates whose products with the state are made together; a phase needs those before it for all units."""
        if self.cell == "lstm":
            return ((0, 1, 3),) if self.coupled else ((0, 1, 2, 3),)
        if self.cell == "gru":
            return ((0, 1, 2),) if self.linear_before_reset else ((0, 1), (2,))
        return ((0,),)

    @property
    def states(self) -> int:
        """Arrays that a step hands to the next."""
        return 2 if self.cell == "lstm" else 1

    @property
    def macs(self) -> int:
        """Multiply-adds with the state."""
        return self.steps * self.batch * self.directions * self.gates * self.hidden**2
