"""Pruning a model: from an ONNX file or a graph to a smaller one.

result = edgeir.prune.prune("model.onnx", target_macs=0.5, shapes={"input": (1, 3, 224, 224)})
edgeir.export.save(result.graph, "pruned.onnx")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.compiler import load_model
from edgeir.errors import EdgeIRError
from edgeir.execution import compiled_services
from edgeir.ir import Graph
from edgeir.ir.shapes import fix_shapes
from edgeir.passes.pipelines import simplification_pipeline
from edgeir.passes.pruning.costs import MEASURED_LATENCY
from edgeir.passes.pruning.prune_channels import PruneChannels
from edgeir.passes.pruning.prune_weights import PruneWeights
from edgeir.passes.pruning.report import (
    REPORT,
    ChannelReport,
    LayerCost,
    WeightReport,
    batch_of_one,
    compare,
    layer_costs,
    totals,
)
from edgeir.passmanager import Pass, PassContext, Pipeline
from edgeir.targets import Target, lookup

Samples = Sequence[Mapping[str, np.ndarray]]
WEIGHT_SCORES = ("l1", "l2", "weighted")
"""Scores that need the weights only."""


@dataclass(frozen=True)
class PruningResult:
    """A pruned graph, and what became of its layers.

    Attributes:
        graph: plain operators, simplified and pruned.
        simplified: the graph before pruning.
        pruning: the pass, as text.
        details: what the pass removed, and what had to stay.
        layers: name, cost before and cost after, in the graph's order; for a batch of one.
        before, after: the sums over the whole graph.
    """

    graph: Graph
    simplified: Graph
    pruning: str
    details: ChannelReport | WeightReport
    layers: list[tuple[str, LayerCost, LayerCost]]
    before: LayerCost
    after: LayerCost

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        layers = [{"layer": name, "before": asdict(old), "after": asdict(new)} for name, old, new in self.layers]
        return {
            "pruning": self.pruning,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "layers": layers,
            "details": self.details.to_dict(),
        }


def prune(
    model: str | Path | Graph,
    pruning: Pass | str = "prune-channels",
    *,
    target: str | Target | None = "host",
    shapes: Mapping[str, Sequence[int]] | None = None,
    calibration: Samples | None = None,
    services: Mapping[str, Callable[..., Any]] | None = None,
    measure: bool = False,
    seed: int = 0,
) -> PruningResult:
    """Simplifies a model and prunes it.

    Args:
        model: path of an ONNX file or of IR text, or a graph (which stays as it is).
        pruning: `PruneChannels`, `PruneWeights`, or either as text: `prune-channels{target-macs=0.5,scope=global}`.
        target: whose vectors the numbers of channels fit; None for any number.
        shapes: input name → sizes, where the model leaves dimensions open. A batch may stay open.
        calibration: samples of real inputs, each input name → array, for activation, gradient and taylor scores.
        services: callables for the pass, such as "gradients" (`edgeir.passes.pruning.scores.GradientService`).
        measure: for `target_latency`, time layers on this machine instead of estimating them.
        seed: of all randomness.

    Returns:
        The pruned graph with its reports.

    Raises:
        EdgeIRError: the model cannot be read, options or data do not fit, or nothing can be removed.
    """
    item = _parsed(pruning)
    if isinstance(item, PruneChannels) and item.score not in WEIGHT_SCORES and not calibration:
        raise EdgeIRError(
            f"the score {item.score} needs calibration data",
            where="prune",
            expected="samples, each input name → array",
            hint="give calibration=…, or --calibration on the command line",
        )
    machine = lookup(target) if isinstance(target, str) else target
    graph = load_model(model, shapes) if not isinstance(model, Graph) else model.copy()
    if isinstance(model, Graph) and shapes:
        graph = fix_shapes(graph, shapes)
    simplification_pipeline(machine).run(graph, PassContext(target=machine, seed=seed))
    reports: list[ChannelReport | WeightReport] = []
    given = {**compiled_services(), **(services or {}), REPORT: reports.append}
    if measure and isinstance(item, PruneChannels) and item.target_latency is not None:
        from edgeir.layer_latency import LayerLatency

        if machine is None:
            raise EdgeIRError("measuring needs a target", where="prune", hint='target="host"')
        given.setdefault(MEASURED_LATENCY, LayerLatency(graph.bind(batch_of_one(graph)), machine))
    before, whole = layer_costs(graph), totals(graph)
    pruned = graph.copy()
    context = PassContext(target=machine, calibration=calibration, seed=seed, services=given)
    item.run(pruned, context)
    pruned.verify()
    rows = compare(before, layer_costs(pruned))
    return PruningResult(pruned, graph, str(item), reports[0], rows, whole, totals(pruned))


def _parsed(pruning: Pass | str) -> PruneChannels | PruneWeights:
    passes = list(Pipeline(pruning).passes) if isinstance(pruning, str) else [pruning]
    if len(passes) == 1 and isinstance(passes[0], PruneChannels | PruneWeights):
        return passes[0]
    raise EdgeIRError(
        "not a pruning",
        where="prune",
        expected="prune-channels{…} or prune-weights{…}",
        got=", ".join(map(str, passes)),
    )
