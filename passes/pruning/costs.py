"""What a node costs at given sizes: multiply-accumulates, or time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.ir import Node, Pattern, TensorType

Cost = Callable[[Node, Sequence[TensorType | None], Sequence[TensorType]], float]
"""(node, types of its operands, types of its results) → cost. The service "measured-latency" is one, in seconds."""

MEASURED_LATENCY = "measured-latency"
_BYTES_PER_CYCLE = 16
_DEFAULT_LANES = 8


def macs_cost(node: Node, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> float:
    """Multiply-accumulates.

    Raises:
        EdgeIRError: a dimension is symbolic.
    """
    macs = node.definition.macs(inputs, outputs, node.attributes)
    if not isinstance(macs, int):
        raise EdgeIRError("a fixed shape is needed", where=str(node), got=str(macs), hint="fix symbolic dimensions")
    return float(macs)


def roofline(target: Any = None) -> Cost:
    """A model of time in cycles of one core: computing or moving bytes, whichever takes longer.

    Channels count in full vectors. Elementwise operators cost nothing, as they are fused. After Williams et al.,
    "Roofline: an insightful visual performance model" (2009), with 16 bytes a cycle.

    Args:
        target: its vectors and FMA units; eight float lanes and one unit if None.
    """
    lanes = _DEFAULT_LANES if target is None else target.lanes(32)
    per_cycle = lanes * (1 if target is None else max(1, target.fma_per_cycle))

    def cost(node: Node, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> float:
        if node.definition.pattern in (Pattern.ELEMENTWISE, Pattern.INJECTIVE):
            return 0.0
        macs = macs_cost(node, inputs, outputs)
        axis = 1 if node.op in ("conv", "conv_transpose") else -1
        channels = outputs[0].shape[axis] if outputs[0].rank else 1
        if isinstance(channels, int) and channels:
            macs *= -(-channels // lanes) * lanes / channels
        moved = sum(item.bytes for item in (*inputs, *outputs) if item is not None)
        return max(macs / per_cycle, moved / _BYTES_PER_CYCLE)

    return cost
