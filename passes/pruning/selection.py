"""How many channels of every family stay: by ratio, by threshold, or until a cost is met."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node
from edgeir.passes.pruning.costs import Cost
from edgeir.passes.pruning.families import Family, Sizes, nodes_of
from edgeir.passes.pruning.report import batch_of_one


def remove_ratio(families: Sequence[Family], ratio: float, least: float) -> None:
    """Removes the same share of every family."""
    for family in families:
        family.removed = family.size - family.nearest(family.size * (1 - ratio), least)


def remove_globally(families: Sequence[Family], ratio: float, least: float) -> None:
    """Removes the share of all channels whose scores, relative to their family's mean, are lowest."""
    scores = np.sort(np.concatenate([family.scores for family in families]))
    limit = scores[min(len(scores) - 1, round(ratio * len(scores)))]
    for family in families:
        wanted = family.size - int(np.searchsorted(family.scores, limit))
        family.removed = family.size - family.nearest(max(1, wanted), least)


def remove_below(families: Sequence[Family], threshold: float, least: float) -> None:
    """Removes channels whose score is below a threshold; where that leaves no full vector, more stay."""
    for family in families:
        above = family.size - int(np.searchsorted(family.raw, threshold))
        floor = max(1, math.ceil(least * family.size - 1e-9))
        family.removed = family.size - min(family.size, -(-max(floor, above) // family.step) * family.step)


def remove_to_cost(graph: Graph, families: Sequence[Family], share: float, cost: Cost, least: float) -> float:
    """Removes channels until the graph costs at most `share` of what it did, with the least score lost.

    The score lost by a step is log(Σ before / Σ after) of the family's scores for each of its layers, so that the
    product of what the layers retain stays greatest, and a layer becomes the more precious the narrower it gets. Steps
    are taken greedily by score lost over cost saved.

    Returns:
        The share that is left, by the cost model.

    Raises:
        EdgeIRError: the share cannot be reached; what can be is told.
    """
    sizes = Sizes(families, batch_of_one(graph))

    def node_cost(node: Node) -> float:
        inputs = [None if value is None else sizes.type_of(value) for value in node.inputs]
        return cost(node, inputs, [sizes.type_of(value) for value in node.outputs])

    costs = {node: node_cost(node) for node in graph.nodes}
    total = whole = sum(costs.values())
    if not whole:
        raise EdgeIRError("the graph costs nothing", where=f"graph {graph.name}", hint="there is nothing to save")
    touched = [[node for node in nodes_of(family)] for family in families]
    readers: dict[Node, list[int]] = {}
    for number, nodes in enumerate(touched):
        for node in nodes:
            readers.setdefault(node, []).append(number)
    suffix = [np.concatenate([np.cumsum(family.scores[::-1])[::-1], [0.0]]) for family in families]

    def step_of(number: int) -> tuple[float, int, float] | None:
        """(score lost per cost saved, groups removed then, cost saved) of the next step of a family."""
        family = families[number]
        fewer = family.fewer(least)
        if fewer is None:
            return None
        before, after = family.removed, family.size - fewer
        family.removed = after
        try:
            saved = sum(costs[node] - node_cost(node) for node in touched[number])
        finally:
            family.removed = before
        lost = family.layers * math.log((suffix[number][before] + 1e-12) / (suffix[number][after] + 1e-12))
        return (lost / saved if saved > 0 else math.inf, after, saved)

    steps = [step_of(number) for number in range(len(families))]
    while total > share * whole * (1 + 1e-9):
        open_steps = [(step[0], number) for number, step in enumerate(steps) if step is not None]
        if not open_steps:
            raise EdgeIRError(
                "the target cannot be met by removing channels",
                expected=f"{share:.2f} of the cost",
                got=f"{total / whole:.2f} at the least",
                hint="ask for less, or lower `least`, the share of every layer that stays",
            )
        _, number = min(open_steps)
        step = steps[number]
        assert step is not None
        families[number].removed = step[1]
        for node in touched[number]:
            new = node_cost(node)
            total += new - costs[node]
            costs[node] = new
        for other in {item for node in touched[number] for item in readers[node]}:
            steps[other] = step_of(other)
    return total / whole
