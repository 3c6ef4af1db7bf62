"""Cases of recurrent layers whose inputs have been multiplied with their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.lowering.op_case import FLOATS, TOLERANCE, Maker, OpCase, array, random

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "lstm": ("sigmoid", "tanh", "tanh"),
    "gru": ("sigmoid", "tanh"),
    "rnn": ("tanh",),
}
OTHERS: dict[str, tuple[str, ...]] = {
    "lstm": ("hardsigmoid", "softsign", "elu"),
    "gru": ("affine", "scaledtanh"),
    "rnn": ("leakyrelu",),
}
STEPS, BATCH, HIDDEN = 4, 3, 5


def recurrent_cases() -> Iterator[OpCase]:
    """Directions, element types, and every optional operand and attribute."""
    for op in GATES:
        for dtype in FLOATS:
            yield recurrent_case(op, dtype)
        yield recurrent_case(op, direction="reverse", optional=True)
        yield recurrent_case(op, direction="bidirectional", optional=True, clip=0.7)
        # Engines differ in the parameters that they give functions by default.
        parameters: dict[str, Any] = (
            {"activation_alpha": (0.7, 0.9), "activation_beta": (0.1, 1.2)} if op == "gru" else {}
        )
        yield recurrent_case(op, optional=True, activations=OTHERS[op], **parameters)
    yield recurrent_case("lstm", optional=True, input_forget=True)
    yield recurrent_case("gru", optional=True, linear_before_reset=True)
    yield recurrent_case("gru", linear_before_reset=True)


def recurrent_case(
    op: str,
    dtype: str = "float32",
    direction: str = "forward",
    optional: bool = False,
    activations: tuple[str, ...] | None = None,
    sizes: tuple[int, int, int] = (STEPS, BATCH, HIDDEN),
    **attributes: Any,
) -> OpCase:
    """A layer of some (steps, batch, hidden) with all optional operands, or with none."""
    steps, batch, hidden = sizes
    count, rows = (2 if direction == "bidirectional" else 1), GATES[op] * hidden

    def normal(*shape: int) -> Maker:
        return random(shape, dtype, -1, 1)

    inputs: list[Maker | None] = [normal(steps, batch, count * rows), None, normal(count, rows, hidden)]
    if optional:
        lengths = array([1 + (steps - 1) * i // max(1, batch - 1) for i in range(batch)], "int32")
        inputs += [normal(count, 2 * rows), lengths, normal(count, batch, hidden)]
        if op == "lstm":
            inputs += [normal(count, batch, hidden), normal(count, 3 * hidden)]
    functions = (activations or FUNCTIONS[op]) * count
    label = f"{dtype}-{direction}-{functions[0]}" + "".join(f"-{name}" for name in attributes) + "-full" * optional
    return OpCase(
        op,
        inputs,
        {"hidden_size": hidden, "direction": direction, "activations": functions, **attributes},
        16 * TOLERANCE[dtype],
        frozenset({2}),
        label,
    )
