"""Computes quantized networks with integers.

    %a = dequantize(%q, %s) : float32[1, 2, 4]
    %b = dequantize(%w, %t) : float32[2, 2, 1]
    %c = conv(%a, %b) {strides = [1], padding = [0, 0], dilations = [1]} : float32[1, 2, 4]
    %y = quantize(%c, %u, %z) : uint8[1, 2, 4]

becomes

    %n = conv_integer(%q, %w) {strides = [1], padding = [0, 0], dilations = [1]} : int32[1, 2, 4]
    %c = dequantize(%n, %v) : float32[1, 2, 4]
    %y = quantize(%c, %one, %z) : uint8[1, 2, 4]

with v = s·t/u. Each quantization gives the same integer as before, or in rare cases of rounding a neighbour of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeir.ir import Graph
from edgeir.passes.quantization.average_rules import AVERAGE_RULES
from edgeir.passes.quantization.integer_rules import INTEGER_RULES
from edgeir.passes.quantization.lookup_rules import LOOKUP_RULES
from edgeir.passes.quantization.movement_rules import MOVEMENT_RULES
from edgeir.passes.quantization.requantize_rules import REQUANTIZE_RULES
from edgeir.passes.quantization.scale_rules import SCALE_RULES
from edgeir.passes.quantization.signedness import activation_dtype, change_signedness
from edgeir.passes.quantization.zero_rules import ZERO_RULES
from edgeir.passmanager import Pass, PassContext, register_pass

_QUANTIZED = frozenset({"quantize", "dequantize", "conv_integer", "matmul_integer"})


@register_pass
@dataclass(frozen=True)
class LowerQdq(Pass):
    """Turns operators between `dequantize` and `quantize` into integer computation; other graphs stay as they are.

    Attributes:
        signedness: whether activations take the signedness that the target's dot products want.
        lookup: whether functions of one 8-bit tensor become tables.
    """

    name: ClassVar[str] = "lower-qdq"
    signedness: bool = True
    lookup: bool = True

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph: signs first, then operators, functions, zero points, and last the scales."""
        if not any(node.op in _QUANTIZED for node in graph.nodes):
            return
        dtype = activation_dtype(context.target)
        if self.signedness and dtype is not None:
            change_signedness(graph, dtype, lambda node: context.permit("change-signedness", node))
        context.apply(graph, (*REQUANTIZE_RULES, *MOVEMENT_RULES, *INTEGER_RULES, *AVERAGE_RULES))
        if self.lookup:
            context.apply(graph, LOOKUP_RULES)
        context.apply(graph, ZERO_RULES)
        context.apply(graph, SCALE_RULES)
