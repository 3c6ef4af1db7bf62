"""Removes output channels that matter least, with every weight connected to them.

    %h = conv(%x, %w1, %b1) : float32[1, 64, 56, 56]
    %r = relu(%h) : float32[1, 64, 56, 56]
    %y = conv(%r, %w2) : float32[1, 128, 56, 56]

becomes, at ratio 0.5,

    %h = conv(%x, %w1, %b1) : float32[1, 32, 56, 56]
    %r = relu(%h) : float32[1, 32, 56, 56]
    %y = conv(%r, %w2) : float32[1, 128, 56, 56]

with rows missing in %w1 and %b1 and columns in %w2. The result equals the graph before with zeros in %w2 for the
channels that are gone. Channels of the graph's inputs and outputs stay, and those that an operator mixes.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node
from edgeir.passes.pruning.channel_axes import ChannelAxis, ChannelSpace, Kept
from edgeir.passes.pruning.costs import MEASURED_LATENCY, macs_cost, roofline
from edgeir.passes.pruning.coupling import channel_spaces
from edgeir.passes.pruning.families import Family, find_families
from edgeir.passes.pruning.removal import replace_contents, without_channels
from edgeir.passes.pruning.report import REPORT, ChannelReport, Stayed
from edgeir.passes.pruning.scores import Score, group_scores
from edgeir.passes.pruning.selection import remove_below, remove_globally, remove_ratio, remove_to_cost
from edgeir.passmanager import Pass, PassContext, register_pass

DEFAULT_RATIO = 0.5


@register_pass
@dataclass(frozen=True)
class PruneChannels(Pass):
    """Removes channels, filters and attention heads by score, and everything that is coupled with them.

    Attributes:
        ratio: the share of channels to remove, between 0 and 1; 0.5 where nothing else says how much.
        score: how much a channel matters: l1, l2 or weighted norm of its filters, mean activation, gradient, taylor.
        scope: `uniform`: the ratio of every layer; `global`: of all, by scores relative to their layer's mean.
        threshold: remove channels whose score is below this, instead of a ratio.
        target_macs: the share of multiply-accumulates to leave, instead of a ratio.
        target_latency: the share of time to leave, by the service "measured-latency" or a roofline model.
        round_to: layers keep multiples of so many channels; the target's float lanes if None, 1 without a target.
        least: the share of every layer's channels that stays at any rate.
        layers: names of the layers to take channels from (their results, or where they come from); all if empty.
    """

    name: ClassVar[str] = "prune-channels"

    ratio: float | None = None
    score: Score = "l1"
    scope: Literal["uniform", "global"] = "uniform"
    threshold: float | None = None
    target_macs: float | None = None
    target_latency: float | None = None
    round_to: int | None = None
    least: float = 0.1
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            EdgeIRError: a number is out of range, or several options say how much to remove.
        """
        amounts = {
            "ratio": self.ratio,
            "threshold": self.threshold,
            "target-macs": self.target_macs,
            "target-latency": self.target_latency,
        }
        given = [name for name, value in amounts.items() if value is not None]
        if len(given) > 1:
            raise EdgeIRError("several options say how much to remove", where=self.name, got=", ".join(given))
        for name in ("ratio", "target-macs", "target-latency"):
            check_share(self.name, name, amounts[name])
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold > 0):
            raise EdgeIRError(
                "threshold is out of range", where=self.name, expected="a number above 0", got=self.threshold
            )
        if not 0 <= self.least < 1:
            raise EdgeIRError("least is out of range", where=self.name, expected="0 ≤ least < 1", got=self.least)
        if self.round_to is not None and self.round_to < 1:
            raise EdgeIRError("round-to is out of range", where=self.name, expected="at least 1", got=self.round_to)

    def run(self, graph: Graph, context: PassContext) -> None:
        """Prunes the graph, and hands a `ChannelReport` to the service "pruning-report" if there is one.

        Raises:
            EdgeIRError: no channel can be removed, a layer that was named cannot lose any, a target cannot be met, or
                data or a service is missing. The graph is as it was then.
        """
        spaces = channel_spaces(graph)
        layers = self._layers(graph, spaces)
        report = ChannelReport(stayed=_stayed(spaces))
        families = self._families(graph, spaces, layers, context)
        if not families:
            raise EdgeIRError(
                "no channel can be removed",
                where=f"graph {graph.name}",
                details="\n".join(f"  {item.layer}: {item.reason}" for item in report.stayed)
                or "  there are no layers",
            )
        report.cost = self._select(graph, families, context)
        for family in families:
            if family.removed and not context.permit(self.name, _layer_of(family)):
                family.removed = 0
        kept = _kept(families)
        for axis, indices in kept.items():
            gone = np.setdiff1d(np.arange(axis.size), indices)
            report.removed.setdefault(axis.value.name, {})[axis.axis] = tuple(gone.tolist())
        if kept:
            replace_contents(graph, without_channels(graph, kept))
        if REPORT in context.services:
            context.services[REPORT](report)

    def _layers(self, graph: Graph, spaces: list[ChannelSpace]) -> set[Node] | None:
        if not self.layers:
            return None
        by_name: dict[str, tuple[Node, ChannelSpace]] = {}
        for space in spaces:
            for item in space.producers:
                for name in (item.node.location, item.output.value.name):
                    if name:
                        by_name[name] = item.node, space
        found = set()
        for name in self.layers:
            if name not in by_name:
                near = difflib.get_close_matches(name, by_name, 3)
                hint = f"did you mean {', '.join(near)}?" if near else None
                raise EdgeIRError("no layer with weights has this name", where=self.name, got=name, hint=hint)
            node, space = by_name[name]
            groups = np.unique(np.concatenate([space.labels[p.output] for p in space.producers if p.node is node]))
            if not space.removable[groups].any():
                raise EdgeIRError(
                    "the layer's channels cannot be removed", where=name, got=space.refusals[int(groups[0])]
                )
            found.add(node)
        return found

    def _families(
        self, graph: Graph, spaces: list[ChannelSpace], layers: set[Node] | None, context: PassContext
    ) -> list[Family]:
        open_spaces = [space for space in spaces if space.removable.any()]
        block = self.round_to or (1 if context.target is None else context.target.lanes(32))
        scores = group_scores(graph, open_spaces, self.score, context)
        return [
            family
            for space, found in zip(open_spaces, scores, strict=True)
            for family in find_families(space, found, block, layers)
        ]

    def _select(self, graph: Graph, families: list[Family], context: PassContext) -> float | None:
        if self.target_macs is not None:
            return remove_to_cost(graph, families, self.target_macs, macs_cost, self.least)
        if self.target_latency is not None:
            cost = context.services.get(MEASURED_LATENCY) or roofline(context.target)
            return remove_to_cost(graph, families, self.target_latency, cost, self.least)
        if self.threshold is not None:
            remove_below(families, self.threshold, self.least)
        elif self.scope == "global":
            remove_globally(families, self.ratio or DEFAULT_RATIO, self.least)
        else:
            remove_ratio(families, self.ratio or DEFAULT_RATIO, self.least)
        return None


def check_share(where: str, name: str, value: float | None) -> None:
    """Whether a share lies between 0 and 1, both excluded.

    Raises:
        EdgeIRError: it does not, or is no number.
    """
    if value is not None and not 0 < value < 1:
        raise EdgeIRError(f"{name} is out of range", where=where, expected="a number above 0 and below 1", got=value)


def _kept(families: list[Family]) -> Kept:
    """Axis → what is left of it, for the axes that lose something."""
    kept: dict[ChannelAxis, np.ndarray] = {}
    gone: dict[int, np.ndarray] = {}
    spaces = {id(family.space): family.space for family in families if family.removed}
    for family in families:
        if family.removed:
            mask = gone.setdefault(id(family.space), np.zeros(family.space.count, dtype=bool))
            mask[family.groups[: family.removed]] = True
    for key, space in spaces.items():
        for axis, labels in space.labels.items():
            left = np.flatnonzero(~gone[key][labels])
            if len(left) < len(labels):
                kept[axis] = left
    return kept


def _layer_of(family: Family) -> Node:
    mine = set(family.axes)
    return next(item.node for item in family.space.producers if item.output in mine)


def _stayed(spaces: list[ChannelSpace]) -> list[Stayed]:
    found = []
    for space in spaces:
        for item in space.producers:
            labels = space.labels[item.output]
            reasons: dict[str, int] = {}
            for group in labels.tolist():
                if group in space.refusals:
                    reasons[space.refusals[group]] = reasons.get(space.refusals[group], 0) + 1
            name = item.node.location or item.output.value.name
            found += [Stayed(name, number, len(labels), reason) for reason, number in reasons.items()]
    return found
