"""LSTM, GRU and RNN."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeir.export.element_types import carrier
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter

_FUNCTIONS = (
    *("Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"),
    *("Softsign", "Softplus"),
)
_NAMES = {name.lower(): name for name in _FUNCTIONS}
_WEIGHTS, _STATE_WEIGHTS, _LENGTHS = 1, 2, 4


@exporter("lstm", "gru", "rnn")
def recurrent(node: ExportNode) -> list[str]:
    """The layer of the same name, time first; where w is absent, ones on its diagonal pass the products on."""
    op_type, dtype = node.op.upper(), node.type().dtype
    attributes: dict[str, Any] = {
        "hidden_size": node.attribute("hidden_size"),
        "direction": node.attribute("direction"),
        "activations": [_NAMES[name] for name in node.attribute("activations")],
        "activation_alpha": list(node.attribute("activation_alpha")) or None,
        "activation_beta": list(node.attribute("activation_beta")) or None,
        "clip": node.attribute("clip"),
    }
    for flag in ("input_forget", "linear_before_reset"):
        if flag in node.node.attributes:
            attributes[flag] = int(node.attribute(flag)) or None
    wide = carrier(op_type, dtype)
    operands = [n if not n or i == _LENGTHS else node.cast(n, dtype, wide) for i, n in enumerate(node.inputs)]
    if not node.has(_WEIGHTS):
        count, rows, _ = node.type(_STATE_WEIGHTS).static_shape
        operands[_WEIGHTS] = node.constant(np.eye(count * rows).reshape(count, rows, -1), wide)
    results = node.emit_all(op_type, operands, len(node.node.outputs), **attributes)
    return [node.cast(name, wide, dtype) for name in results]
