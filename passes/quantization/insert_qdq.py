"""Rounds activations to few bits where integer arithmetic is to be done, with ranges found on calibration samples.

    %y = conv(%x, %w) {…} : float32[1, 8, 8, 8]

becomes

    %q = quantize(%x, scale, zero) : uint8[1, 3, 8, 8]
    %d = dequantize(%q, scale, zero) : float32[1, 3, 8, 8]
    %y = conv(%d, %w) {…} : float32[1, 8, 8, 8]

and every other reader of %x reads %d too. What the graph computes stays float, but takes the values that integers can
represent: a *fake-quantized* graph, the same as QuantizeLinear and DequantizeLinear in ONNX. Weights are left to
`quantize-weights`. Batch norms should have been folded before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Value
from edgeir.passes.quantization.calibration import observe
from edgeir.passes.quantization.grid import Grid, affine_parameters, safe_scale
from edgeir.passes.quantization.observers import Observer, ObserverName, make_observer
from edgeir.passes.quantization.placement import Placement, Plan, moves_only, plan
from edgeir.passes.quantization.saturation import caring_range
from edgeir.passmanager import Pass, PassContext, register_pass

Activations = Literal["auto", "uint8", "int8"]


@register_pass
@dataclass(frozen=True)
class InsertQdq(Pass):
    """Quantizes and dequantizes activations; needs calibration samples.

    Attributes:
        observer: how a range is found from samples; see `edgeir.passes.quantization.observers`.
        placement: which values are rounded; see `edgeir.passes.quantization.placement`.
        activations: the type of 8-bit activations; with `auto` int8 on ARM, uint8 elsewhere.
        bits: 8, or 4 for numbers of 4 bits of the same sign.
        symmetric: whether 0 is the middle of the range (of a range that starts at 0, its start, if unsigned).
        scheme: `linear`, or `log2` for signs and powers of 2 (`log_quantize`).
        skip: operators or names that stay float.
    """

    name: ClassVar[str] = "insert-qdq"
    observer: ObserverName = "percentile"
    placement: Placement = "portable"
    activations: Activations = "auto"
    bits: int = 8
    symmetric: bool = False
    scheme: Literal["linear", "log2"] = "linear"
    skip: tuple[str, ...] = ()

    def run(self, graph: Graph, context: PassContext) -> None:
        """Plans on the float graph, observes, inserts.

        Raises:
            EdgeIRError: no calibration samples, a value that is not finite on one, an option out of range.
        """
        if self.bits not in (4, 8):
            raise EdgeIRError("activations have 8 or 4 bits", where=f"pass {self.name}", got=self.bits)
        decided = plan(graph, self.placement, self.skip)
        if not decided.classes:
            return
        observers = self._observe(graph, decided, context)
        grid = Grid(activation_dtype(self.activations, context.target, self.bits), self.symmetric)
        for values, observer in zip(decided.classes, observers, strict=True):
            low, high = observer.range(grid)
            dtype = values[0].type.dtype
            if self.scheme == "log2":
                scale = safe_scale(max(-low, high) / 2.0 ** (2 ** (self.bits - 2) - 1) or 1.0, dtype)
                parameters = (graph.add_constant(scale, f"{values[0].name}_scale"),)
            else:
                scale, zero = affine_parameters(low, high, grid, dtype)
                parameters = (
                    graph.add_constant(scale, f"{values[0].name}_scale"),
                    graph.add_constant(zero, f"{values[0].name}_zero"),
                )
            for value in values:
                if not self._insert(graph, value, parameters, context):
                    graph.remove_unused_constants()
                    return

    def _observe(self, graph: Graph, decided: Plan, context: PassContext) -> list[Observer]:
        """An observer for each class, which has seen the values that are not moved from others of it."""
        observers: list[Observer] = []
        watched: dict[Value, Observer] = {}
        for values in decided.classes:
            observer = make_observer(self.observer)
            observers.append(observer)
            sources = [value for value in values if value.producer is None or not moves_only(value.producer)]
            watched.update(dict.fromkeys(sources or values, observer))
        observe(graph, watched, context, self.name, {value: caring_range(value) for value in watched})
        return observers

    def _insert(self, graph: Graph, value: Value, parameters: tuple[Value, ...], context: PassContext) -> bool:
        uses = value.uses
        first = value.users[0]
        for node in value.users:
            first = node if graph.comes_before(node, first) else first
        if not context.permit(self.name, first):
            return False
        log = len(parameters) == 1
        attributes: dict[str, Any] = {"bits": self.bits} if log else {}
        ops = ("log_quantize", "log_dequantize") if log else ("quantize", "dequantize")
        place = value.producer.location if value.producer is not None else ""
        options: dict[str, Any] = {"before": first, "location": place}
        names = f"{value.name}_quantized", f"{value.name}_dequantized"
        codes = graph.add_node(ops[0], (value, *parameters), attributes, names=names[:1], **options).output
        result = graph.add_node(ops[1], (codes, *parameters), attributes, names=names[1:], **options).output
        for node, index in uses:
            graph.set_input(node, index, result)
        return True


def activation_dtype(activations: Activations, target: Any, bits: int = 8) -> str:
    """The type of quantized activations: what the target's dot products take with int8 weights."""
    if activations == "auto":
        signed = target is not None and (target.kind == "cuda" or target.architecture in ("aarch64", "arm"))
    else:
        signed = activations == "int8"
    return f"{'int' if signed else 'uint'}{bits}"
