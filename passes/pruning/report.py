"""What pruning did, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgeir.ir import Graph, Node, Value
from edgeir.ir.dims import SymbolicDim

REPORT = "pruning-report"
"""The service that a pruning pass calls with its report, if there is one."""

LAYERS = ("conv", "conv_transpose", "matmul", "einsum")


@dataclass(frozen=True)
class Stayed:
    """Channels that had to stay: the layer that produces them, how many of how many, and why."""

    layer: str
    channels: int
    of: int
    reason: str


@dataclass
class ChannelReport:
    """What `prune-channels` removed.

    Attributes:
        removed: name of a value → axis → the indices that went, of those that the value had before.
        stayed: what could not be removed, and why.
        cost: share of the cost that is left, where a target was given.
    """

    removed: dict[str, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    stayed: list[Stayed] = field(default_factory=list)
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        removed = {
            name: {str(axis): list(indices) for axis, indices in axes.items()} for name, axes in self.removed.items()
        }
        return {"removed": removed, "stayed": [asdict(item) for item in self.stayed], "cost": self.cost}


@dataclass
class WeightReport:
    """What `prune-weights` set to zero.

    Attributes:
        masks: name of a constant → bool array of its shape, True where a weight stayed.
        skipped: name of a constant → why its weights stayed.
    """

    masks: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the density of every mask, not the mask, which the weights' zeros tell."""
        return {"density": {name: float(mask.mean()) for name, mask in self.masks.items()}, "skipped": self.skipped}


@dataclass(frozen=True)
class LayerCost:
    """One layer.

    Attributes:
        channels: output channels.
        parameters, nonzero: elements of its constants, and those of them that are not zero.
        macs: multiply-accumulates; None where they depend on an open dimension other than the batch.
        bytes: size of its constants.
    """

    channels: int
    parameters: int
    nonzero: int
    macs: int | None
    bytes: int


def batch_of_one(graph: Graph) -> dict[str, int]:
    """Symbols that are the first dimension of an input, with size 1: what costs are counted for."""
    firsts = [value.type.shape[0] for value in graph.inputs if value.type.rank]
    return {str(size): 1 for size in firsts if isinstance(size, SymbolicDim) and size.symbols() == {str(size)}}


def layer_costs(graph: Graph) -> dict[str, LayerCost]:
    """Name of a layer's result → its cost, for a batch of one.

    A layer is a convolution or product with the constants that it reads, directly or through operators on constants
    only; a bias that is added later is not counted.
    """
    bound = graph.bind(batch_of_one(graph))
    rows = {}
    for node in bound.nodes:
        if node.op not in LAYERS:
            continue
        constants = _constants(node)
        if not constants:
            continue
        rows[node.output.name] = LayerCost(
            channels=_channels(node),
            parameters=sum(value.data.size for value in constants),
            nonzero=sum(int(np.count_nonzero(value.data)) for value in constants),
            macs=_macs(node),
            bytes=sum(value.type.bytes for value in constants),
        )
    return rows


def totals(graph: Graph) -> LayerCost:
    """The sums over the whole graph, all constants included; `channels` is 0."""
    bound = graph.bind(batch_of_one(graph))
    constants = list({id(value.data): value for value in bound.constants if value.is_used}.values())
    macs = [_macs(node) for node in bound.nodes]
    return LayerCost(
        channels=0,
        parameters=sum(value.data.size for value in constants),
        nonzero=sum(int(np.count_nonzero(value.data)) for value in constants),
        macs=None if None in macs else sum(item for item in macs if item is not None),
        bytes=sum(value.type.bytes for value in constants),
    )


def _macs(node: Node) -> int | None:
    inputs = [None if value is None else value.type for value in node.inputs]
    macs = node.definition.macs(inputs, [value.type for value in node.outputs], node.attributes)
    return macs if isinstance(macs, int) else None


def compare(before: Mapping[str, LayerCost], after: Mapping[str, LayerCost]) -> list[tuple[str, LayerCost, LayerCost]]:
    """Layers of both graphs, matched by the names of their results."""
    return [(name, row, after[name]) for name, row in before.items() if name in after]


def _channels(node: Node) -> int:
    size = node.output.type.shape[1 if node.op.startswith("conv") else -1]
    return size if isinstance(size, int) else 0


def _constants(node: Node) -> list[Value]:
    found: dict[Value, None] = {}

    def visit(value: Value) -> bool:
        if value.is_constant:
            found[value] = None
            return True
        producer = value.producer
        return producer is not None and bool(producer.present_inputs) and all(map(visit, producer.present_inputs))

    for value in node.present_inputs:
        before = dict(found)
        if not visit(value):
            found.clear()
            found.update(before)
    return list(found)
