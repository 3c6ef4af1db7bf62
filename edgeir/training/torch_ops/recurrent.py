"""Recurrent layers, step by step; the products with the inputs are made for all steps at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgeir.ops.recurrent import Gate, directions, gates
from edgeir.training.torch_ops.registry import Call, Results, torch_op

_ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "relu": lambda x, a, b: torch.relu(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, b: torch.where(x >= 0, x, a * x),
    "thresholdedrelu": lambda x, a, b: torch.where(x > a, x, 0),
    "scaledtanh": lambda x, a, b: a * torch.tanh(b * x),
    "hardsigmoid": lambda x, a, b: (a * x + b).clamp(0, 1),
    "elu": lambda x, a, b: torch.where(x >= 0, x, a * torch.expm1(x.clamp(max=0))),
    "softsign": lambda x, a, b: x / (1 + x.abs()),
    "softplus": lambda x, a, b: functional.softplus(x, threshold=50),
}

State = tuple[Tensor, ...]
Functions = Sequence[Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class _Direction:
    """One direction's weights: r (G·H, H), its bias (G·H), peepholes (3, H) or None, and the attributes."""

    r: Tensor
    r_bias: Tensor | None
    peepholes: Tensor | None
    functions: Functions
    attributes: Mapping[str, Any]

    def bound(self, x: Tensor) -> Tensor:
        """Clipped where the layer clips."""
        clip = self.attributes["clip"]
        return x if clip is None else x.clamp(-clip, clip)

    def state_part(self, h: Tensor, first: int, count: int) -> Tensor:
        """h·rᵀ + its bias, of `count` gates beginning with `first`."""
        hidden = h.shape[1]
        rows = slice(first * hidden, (first + count) * hidden)
        return functional.linear(h, self.r[rows], None if self.r_bias is None else self.r_bias[rows])


def _lstm_step(x: Tensor, state: State, d: _Direction) -> State:
    """Gates i, o, f, c."""
    h, c = state
    f, g, output = d.functions
    i_gate, o_gate, f_gate, c_gate = (x + d.state_part(h, 0, 4)).chunk(4, 1)
    if d.peepholes is not None:
        i_gate, f_gate = i_gate + d.peepholes[0] * c, f_gate + d.peepholes[2] * c
    i = f(d.bound(i_gate))
    forget = 1 - i if d.attributes["input_forget"] else f(d.bound(f_gate))
    cell = forget * c + i * g(d.bound(c_gate))
    if d.peepholes is not None:
        o_gate = o_gate + d.peepholes[1] * cell
    return f(d.bound(o_gate)) * output(cell), cell


def _gru_step(x: Tensor, state: State, d: _Direction) -> State:
    """Gates z, r, h."""
    (h,) = state
    f, g = d.functions
    z_input, r_input, h_input = x.chunk(3, 1)
    z_state, r_state = d.state_part(h, 0, 2).chunk(2, 1)
    z, r = f(d.bound(z_input + z_state)), f(d.bound(r_input + r_state))
    linear = d.attributes["linear_before_reset"]
    reset = r * d.state_part(h, 2, 1) if linear else d.state_part(r * h, 2, 1)
    return ((1 - z) * g(d.bound(h_input + reset)) + z * h,)


def _rnn_step(x: Tensor, state: State, d: _Direction) -> State:
    return (d.functions[0](d.bound(x + d.state_part(state[0], 0, 1))),)


_STEPS = {"lstm": (_lstm_step, 2), "gru": (_gru_step, 1), "rnn": (_rnn_step, 1)}


def _function(gate: Gate) -> Callable[[Tensor], Tensor]:
    function = _ACTIVATIONS[gate.name]
    return lambda x: function(x, gate.alpha, gate.beta)


@torch_op("lstm", "gru", "rnn")
def recurrent(call: Call) -> Results:
    """Y, Y_h and for lstm Y_c."""
    x, w, r, b = call.tensor(0), call.optional(1), call.tensor(2), call.optional(3)
    lengths, peepholes = call.optional(4), call.optional(7)
    step, state_count = _STEPS[call.node.op]
    steps, batch = x.shape[:2]
    hidden = call.attributes["hidden_size"]
    per_direction: list[Tensor] = []
    last: list[list[Tensor]] = [[] for _ in range(state_count)]
    count = directions(call.attributes)
    for d in range(count):
        w_bias, r_bias = (None, None) if b is None else b[d].chunk(2)
        direction = _Direction(
            r[d],
            r_bias,
            None if peepholes is None else peepholes[d].reshape(3, hidden),
            [_function(gate) for gate in gates(call.attributes, d)],
            call.attributes,
        )
        if w is not None:
            inputs = functional.linear(x, w[d], w_bias)
        else:
            inputs = x.chunk(count, 2)[d] if w_bias is None else x.chunk(count, 2)[d] + w_bias
        starts = (call.optional(5), call.optional(6))[:state_count]
        state: State = tuple(x.new_zeros((batch, hidden)) if s is None else s[d] for s in starts)
        backward = d == 1 or call.attributes["direction"] == "reverse"
        outputs: list[Tensor] = []
        for t in range(steps - 1, -1, -1) if backward else range(steps):
            new = step(inputs[t], state, direction)
            if lengths is None:
                state = new
                outputs.append(state[0])
            else:
                # A step beyond the end of a sequence leaves its state alone; backward, steps there come first.
                live = (t < lengths)[:, None]
                state = tuple(torch.where(live, after, before) for after, before in zip(new, state, strict=True))
                outputs.append(torch.where(live, state[0], 0))
        if backward:
            outputs.reverse()
        per_direction.append(torch.stack(outputs) if outputs else x.new_zeros((0, batch, hidden)))
        for collected, value in zip(last, state, strict=True):
            collected.append(value)
    return (torch.stack(per_direction, 1), *(torch.stack(values) for values in last))
