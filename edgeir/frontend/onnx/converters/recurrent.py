"""LSTM, GRU and RNN."""

from __future__ import annotations

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value

_DEFAULT_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_OPERANDS = {"LSTM": 8, "GRU": 6, "RNN": 6}


@converter(*_OPERANDS)
def recurrent(node: ImportNode) -> list[Value | None]:
    """A recurrent layer: all states, the last state and, for LSTM, the last cell state."""
    name = node.op_type
    operands = [node.optional(index) for index in range(_OPERANDS[name])]
    batch_first = bool(node.attribute("layout", 0))
    if batch_first:
        for index in (0, 5, 6):
            value = operands[index] if index < len(operands) else None
            if value is not None:
                operands[index] = node.transpose(value, (1, 0, 2))
    hidden = node.attribute("hidden_size")
    if hidden is None:
        hidden = node.type(2).shape[-1]
    direction = node.attribute("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    activations = node.attribute("activations") or _DEFAULT_ACTIVATIONS[name] * directions
    attributes = {
        "hidden_size": hidden,
        "direction": direction,
        "activations": [function.lower() for function in activations],
        "activation_alpha": node.attribute("activation_alpha") or (),
        "activation_beta": node.attribute("activation_beta") or (),
        "clip": node.attribute("clip"),
    }
    if name == "LSTM":
        attributes["input_forget"] = bool(node.attribute("input_forget", 0))
    if name == "GRU":
        attributes["linear_before_reset"] = bool(node.attribute("linear_before_reset", 0))
    outputs: list[Value | None] = [*node.emit_all(name.lower(), *operands, **attributes)]
    if batch_first:
        perms = [(2, 0, 1, 3), (1, 0, 2), (1, 0, 2)]
        outputs = [
            node.transpose(value, perm) if value is not None and node.wants(index) else None
            for index, (value, perm) in enumerate(zip(outputs, perms, strict=False))
        ]
    return outputs
