"""Computes at compile time what depends on constants only.

    %a = constant float32[2] [1.0, 4.0]
    %b = sqrt(%a) : float32[2]
    %y = add(%x, %b) : float32[2]

becomes

    %b = constant float32[2] [1.0, 2.0]
    %y = add(%x, %b) : float32[2]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeir.ir import Graph, Node, SymbolicDim
from edgeir.ir.dtype import bits
from edgeir.ir.evaluate import evaluate_node
from edgeir.passmanager import Pass, PassContext, register_pass

_MOST_MACS = 10**8
_DECODERS = frozenset({"dequantize", "log_dequantize", "lookup", "cast"})
_DEQUANTIZERS = frozenset({"dequantize", "log_dequantize"})
_NARROW_BITS = 8


@register_pass
@dataclass(frozen=True)
class FoldConstants(Pass):
    """Evaluates nodes all of whose operands are constants, by the reference evaluation.

    Attributes:
        max_bytes: the largest result that may grow freely; larger ones are folded only up to `growth` times the size
            of what they are computed from (a big `expand` or `iota` stays).
        growth: see `max_bytes`.
        max_decoded: the most elements of 8 or fewer bits that are decoded (dequantized, cast, looked up) to wider
            ones; larger constants stay compressed, and kernels decode them as they read them.
        dequantize: whether constants are dequantized, however many or few; left alone by default, so that quantized
            operators can be recognized.
    """

    name: ClassVar[str] = "fold-constants"
    max_bytes: int = 1 << 20
    growth: float = 4.0
    max_decoded: int = 1024
    dequantize: bool = False

    def run(self, graph: Graph, context: PassContext) -> None:
        """One walk in order; a folded node is a constant for those after it."""
        for node in graph.nodes:
            if not self._can_fold(node):
                continue
            if not context.permit(self.name, node):
                break
            arrays = [None if value is None else value.data for value in node.inputs]
            results = evaluate_node(node, arrays)
            names = [value.name for value in node.outputs]
            constants = [
                graph.add_constant(np.ascontiguousarray(array).reshape(array.shape), name)
                for array, name in zip(results, names, strict=True)
            ]
            graph.replace_node(node, constants)
            for value, name in zip(constants, names, strict=True):
                graph.rename(value, graph.fresh_name(name))
        graph.remove_unused_constants()

    def _can_fold(self, node: Node) -> bool:
        if node.op in ("fused", "layout_cast"):
            return False
        # Wider integers are biases.
        if node.op in _DEQUANTIZERS and not self.dequantize and bits(node.input(0).type.dtype) <= 16:
            return False
        if not all(value.is_constant for value in node.present_inputs):
            return False
        if any(value.type.layout for value in (*node.present_inputs, *node.outputs)):
            return False
        if not self.dequantize and self._is_compressed(node):
            return False
        if any(_is_symbolic(item) for item in node.attributes.values()):
            return False
        if not all(value.type.is_static for value in node.outputs):
            return False
        size = sum(value.type.bytes for value in node.outputs)
        if size > self.max_bytes and size > self.growth * sum(value.type.bytes for value in node.present_inputs):
            return False
        types = [None if value is None else value.type for value in node.inputs]
        macs = node.definition.macs(types, [value.type for value in node.outputs], node.attributes)
        return isinstance(macs, int) and macs <= _MOST_MACS

    def _is_compressed(self, node: Node) -> bool:
        """Whether folding would write a large constant with more bits per element."""
        if node.op not in _DECODERS:
            return False
        before, after = node.input(0).type, node.output.type
        narrow = (
            bits(before.dtype) <= _NARROW_BITS and before.dtype != "bool" and bits(after.dtype) > bits(before.dtype)
        )
        return narrow and isinstance(before.elements, int) and before.elements > self.max_decoded


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, SymbolicDim) or (isinstance(value, tuple) and any(map(_is_symbolic, value)))
