"""Recurrent layers lstm, gru and rnn, as the ONNX operator specification defines them (layout 0: time first).

Shapes: T steps, B sequences, I inputs, H hidden units, D directions (2 for bidirectional), G gates. Operands: x (T, B,
I), w (D, G·H, I), r (D, G·H, H), b (D, 2·G·H: those of w, then those of r), sequence_lengths int32 (B), initial_h (D,
B, H). Results: Y (T, D, B, H), zero after the end of a sequence, and Y_h (D, B, H), the state after its last step.

Beyond ONNX, w may be absent: x (T, B, D·G·H) then is the product with w already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.dims import Dim
from edgeir.ir.op import Attribute, Kind, Op, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import check_dtype, check_length, check_rank, check_same_dtype, check_shape, optional, present

Types = Sequence[TensorType | None]
Arrays = Sequence[np.ndarray | None]
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Activation:
    """A function of a gate: f(x, alpha, beta), and the parameters that ONNX gives it by default."""

    function: Callable[[np.ndarray, float, float], np.ndarray]
    alpha: float | None = None
    beta: float | None = None


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, 0)


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(lambda x, a, b: np.maximum(x, 0)),
    "tanh": Activation(lambda x, a, b: np.tanh(x)),
    "sigmoid": Activation(lambda x, a, b: 1 / (1 + np.exp(-x))),
    "affine": Activation(lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": Activation(lambda x, a, b: np.where(x >= 0, x, a * x), 0.01),
    "thresholdedrelu": Activation(lambda x, a, b: np.where(x > a, x, 0), 1.0),
    "scaledtanh": Activation(lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": Activation(lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": Activation(lambda x, a, b: np.where(x >= 0, x, a * (np.exp(x) - 1)), 1.0),
    "softsign": Activation(lambda x, a, b: x / (1 + np.abs(x))),
    "softplus": Activation(lambda x, a, b: _softplus(x)),
}
"""ONNX's activation functions by their names in lower case, with the default alpha and beta of those that have them."""


@dataclass(frozen=True)
class Gate:
    """One activation function with its parameters (0 where it has none)."""

    name: str
    alpha: float
    beta: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function, elementwise."""
        return ACTIVATIONS[self.name].function(x, self.alpha, self.beta)


def gates(attributes: Attributes, direction: int) -> tuple[Gate, ...]:
    """The activation functions f, g, h (as many as the operator has) of one direction.

    `activation_alpha` and `activation_beta` list values for the functions that take them, in order over all
    directions; functions beyond the end of the list take ONNX's defaults.

    Raises:
        TypeInferenceError: a function is unknown.
    """
    alphas, betas = iter(attributes["activation_alpha"]), iter(attributes["activation_beta"])
    found: list[Gate] = []
    for name in attributes["activations"]:
        if name not in ACTIVATIONS:
            raise TypeInferenceError("unknown activation function", expected=" | ".join(ACTIVATIONS), got=name)
        default = ACTIVATIONS[name]
        alpha = 0.0 if default.alpha is None else next(alphas, default.alpha)
        beta = 0.0 if default.beta is None else next(betas, default.beta)
        found.append(Gate(name, alpha, beta))
    count = len(found) // directions(attributes)
    return tuple(found[direction * count : (direction + 1) * count])


def directions(attributes: Attributes) -> int:
    """Number of directions: D."""
    return 2 if attributes["direction"] == "bidirectional" else 1


_ATTRIBUTES: dict[str, Attribute] = {
    "hidden_size": Attribute(Kind.INT),
    "direction": Attribute(Kind.STR, "forward", ("forward", "reverse", "bidirectional")),
    "activations": Attribute(Kind.STRS),
    "activation_alpha": Attribute(Kind.FLOATS, ()),
    "activation_beta": Attribute(Kind.FLOATS, ()),
    "clip": Attribute(Kind.FLOAT, None),
}

State = tuple[np.ndarray, ...]

GATE_COUNTS = {"lstm": 4, "gru": 3, "rnn": 1}
"""Operator → gates, G."""


class Recurrent(Op):
    """What the three layers share; a subclass gives the gates and one step.

    Class attributes:
        function_count: activation functions per direction.
        state_count: arrays that a step hands to the next (1: h; 2: h and c).
    """

    function_count: ClassVar[int]
    state_count: ClassVar[int] = 1

    def step(
        self, x: np.ndarray, state: State, weights: Weights, functions: Sequence[Gate], attributes: Attributes
    ) -> State:
        """The state after one step: x (B, I), each state (B, H)."""
        raise NotImplementedError

    def infer(self, inputs: Types, attributes: Attributes) -> list[TensorType]:
        """The shapes in the head of this file."""
        x, name = present(inputs, 0), self.name
        check_rank("x", x, 3, 3)
        check_dtype("x", x, ("float16", "bfloat16", "float32", "float64"))
        lengths = optional(inputs, 4)
        check_same_dtype(*[t for i, t in enumerate(inputs) if t is not None and i != 4])
        steps, batch, size = x.shape
        hidden, count = attributes["hidden_size"], directions(attributes)
        if hidden < 1:
            raise TypeInferenceError(f"{name}: unusable hidden_size", expected="at least 1", got=hidden)
        rows = GATE_COUNTS[self.name] * hidden
        if optional(inputs, 1) is None and size != count * rows:
            raise TypeInferenceError(
                f"{name}: x is no product with all gates' weights", expected=count * rows, got=size
            )
        expected: dict[int, tuple[Dim, ...]] = {
            1: (count, rows, size),
            2: (count, rows, hidden),
            3: (count, 2 * rows),
            4: (batch,),
            5: (count, batch, hidden),
            6: (count, batch, hidden),
            7: (count, 3 * hidden),
        }
        for position, operand_name in enumerate(self.operands):
            t = optional(inputs, position)
            if position and t is not None:
                check_shape(operand_name.rstrip("?"), t, expected[position])
        if lengths is not None:
            check_dtype("sequence_lengths", lengths, ("int32",))
        check_length("activations", attributes["activations"], self.function_count * count)
        gates(attributes, 0)
        if attributes["clip"] is not None and attributes["clip"] <= 0:
            raise TypeInferenceError(f"{name}: unusable clip", expected="a positive bound", got=attributes["clip"])
        last = TensorType(x.dtype, (count, batch, hidden))
        return [TensorType(x.dtype, (steps, count, batch, hidden))] + [last] * self.state_count

    def evaluate(self, inputs: Arrays, attributes: Attributes) -> list[np.ndarray]:
        """Step by step, in at least float32."""
        x = present(inputs, 0)
        wide = [None if a is None or i == 4 else _widen(a) for i, a in enumerate(inputs)]
        x_wide, (steps, batch, _) = present(wide, 0), x.shape
        hidden, count = attributes["hidden_size"], directions(attributes)
        given = optional(inputs, 4)
        lengths = np.full(batch, steps) if given is None else given
        y = np.zeros((steps, count, batch, hidden), x_wide.dtype)
        last = [np.zeros((count, batch, hidden), x_wide.dtype) for _ in range(self.state_count)]
        for d in range(count):
            weights = Weights.of(wide, d, GATE_COUNTS[self.name])
            own = x_wide if weights.w is not None else np.split(x_wide, count, axis=2)[d]
            functions = gates(attributes, d)
            starts = [optional(wide, 5), optional(wide, 6)][: self.state_count]
            state: State = tuple(np.zeros((batch, hidden), x_wide.dtype) if s is None else s[d] for s in starts)
            backward = d == 1 or attributes["direction"] == "reverse"
            for t in range(steps - 1, -1, -1) if backward else range(steps):
                # A step beyond the end of a sequence leaves its state alone; backward, steps there come first.
                live = (t < lengths)[:, None]
                new = self.step(own[t], state, weights, functions, attributes)
                state = tuple(np.where(live, after, before) for after, before in zip(new, state, strict=True))
                y[t, d] = np.where(live, state[0], 0)
            for array, value in zip(last, state, strict=True):
                array[d] = value
        return [array.astype(x.dtype) for array in (y, *last)]

    def macs(self, inputs: Types, outputs: Sequence[TensorType], attributes: Attributes) -> Dim:
        """Products with w (unless it is absent) and r: T·B·D·G·H·(I + H)."""
        steps, batch, size = present(inputs, 0).shape
        size = 0 if optional(inputs, 1) is None else size
        hidden = attributes["hidden_size"]
        return steps * batch * (size + hidden) * (directions(attributes) * GATE_COUNTS[self.name] * hidden)


def _widen(array: np.ndarray) -> np.ndarray:
    return array if array.dtype == np.float64 else array.astype(np.float32)


@dataclass(frozen=True)
class Weights:
    """One direction's weights, gate by gate: w (G, H, I) or None, r (G, H, H), biases (G, H), peepholes (3, H)."""

    w: np.ndarray | None
    r: np.ndarray
    w_bias: np.ndarray
    r_bias: np.ndarray
    peepholes: np.ndarray

    @classmethod
    def of(cls, inputs: Arrays, direction: int, gate_count: int) -> Weights:
        """The slice of one direction; absent biases and peepholes are zero."""
        given, r = optional(inputs, 1), present(inputs, 2)[direction]
        hidden = r.shape[1]
        b, p = optional(inputs, 3), optional(inputs, 7)
        biases = np.zeros(2 * gate_count * hidden, r.dtype) if b is None else b[direction]
        biases = biases.reshape(2, gate_count, hidden)
        peepholes = np.zeros((3, hidden), r.dtype) if p is None else p[direction].reshape(3, hidden)
        w = None if given is None else given[direction].reshape(gate_count, hidden, -1)
        return cls(w, r.reshape(gate_count, hidden, hidden), biases[0], biases[1], peepholes)

    def input_part(self, x: np.ndarray, gate: int) -> np.ndarray:
        """x·wᵀ + its bias, of one gate; x (B, G·H) is the product where w is absent."""
        product = np.split(x, len(self.r), axis=1)[gate] if self.w is None else x @ self.w[gate].T
        return product + self.w_bias[gate]

    def state_part(self, h: np.ndarray, gate: int) -> np.ndarray:
        """h·rᵀ + its bias, of one gate."""
        return h @ self.r[gate].T + self.r_bias[gate]


def _bound(x: np.ndarray, attributes: Attributes) -> np.ndarray:
    clip = attributes["clip"]
    return x if clip is None else np.clip(x, -clip, clip)


@register
class LSTM(Recurrent):
    """Gates i, o, f, c; functions f (gates), g (cell input), h (output). `input_forget` couples f = 1 − i."""

    name = "lstm"
    operands = ("x", "w?", "r", "b?", "sequence_lengths?", "initial_h?", "initial_c?", "peephole?")
    attributes: ClassVar = {**_ATTRIBUTES, "input_forget": Attribute(Kind.BOOL, False)}
    results = 3
    function_count = 3
    state_count = 2

    def step(
        self, x: np.ndarray, state: State, weights: Weights, functions: Sequence[Gate], attributes: Attributes
    ) -> State:
        """(h, c) → (h, c)."""
        h, c = state
        f, g, output = functions
        i_gate, o_gate, f_gate, c_gate = (weights.input_part(x, k) + weights.state_part(h, k) for k in range(4))
        p_i, p_o, p_f = weights.peepholes
        i = f(_bound(i_gate + p_i * c, attributes))
        forget = 1 - i if attributes["input_forget"] else f(_bound(f_gate + p_f * c, attributes))
        cell = forget * c + i * g(_bound(c_gate, attributes))
        o = f(_bound(o_gate + p_o * cell, attributes))
        return o * output(cell), cell


@register
class GRU(Recurrent):
    """Gates z, r, h; functions f (gates), g (candidate). `linear_before_reset` applies r after the product with r."""

    name = "gru"
    operands = ("x", "w?", "r", "b?", "sequence_lengths?", "initial_h?")
    attributes: ClassVar = {**_ATTRIBUTES, "linear_before_reset": Attribute(Kind.BOOL, False)}
    results = 2
    function_count = 2

    def step(
        self, x: np.ndarray, state: State, weights: Weights, functions: Sequence[Gate], attributes: Attributes
    ) -> State:
        """(h) → (h)."""
        (h,) = state
        f, g = functions
        z = f(_bound(weights.input_part(x, 0) + weights.state_part(h, 0), attributes))
        r = f(_bound(weights.input_part(x, 1) + weights.state_part(h, 1), attributes))
        reset = r * weights.state_part(h, 2) if attributes["linear_before_reset"] else weights.state_part(r * h, 2)
        candidate = g(_bound(weights.input_part(x, 2) + reset, attributes))
        return ((1 - z) * candidate + z * h,)


@register
class RNN(Recurrent):
    """h ← f(x·wᵀ + h·rᵀ + biases)."""

    name = "rnn"
    operands = ("x", "w?", "r", "b?", "sequence_lengths?", "initial_h?")
    attributes: ClassVar = dict(_ATTRIBUTES)
    results = 2
    function_count = 1

    def step(
        self, x: np.ndarray, state: State, weights: Weights, functions: Sequence[Gate], attributes: Attributes
    ) -> State:
        """(h) → (h)."""
        return (functions[0](_bound(weights.input_part(x, 0) + weights.state_part(state[0], 0), attributes)),)
