"""Families: groups of channels that stand in for each other, as the output channels of one layer do.

Groups of a space that occur along exactly the same axes form a family. How many of a family stay is what is decided;
which ones follows from their scores.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeir.ir import Node, TensorType, Value
from edgeir.passes.pruning.channel_axes import ChannelAxis, ChannelSpace


@dataclass
class Family:
    """Interchangeable groups.

    Attributes:
        space: what they belong to.
        groups: their numbers in the space, by ascending score: int64 (size).
        scores: float64 (size), ascending, divided by their mean.
        raw: the scores as they were.
        axes: the axes along which they occur.
        removed_indices: axis → how many of its indices go with the first k groups: int64 (size + 1).
        step: numbers of groups that stay are multiples of it, so that layers have full vectors of channels.
        layers: how many layers give channels of their own to it; depthwise ones, which pass channels on, do not count.
        removed: how many groups go, from the front.
    """

    space: ChannelSpace
    groups: np.ndarray
    scores: np.ndarray
    raw: np.ndarray
    axes: tuple[ChannelAxis, ...]
    removed_indices: dict[ChannelAxis, np.ndarray]
    step: int
    layers: int = 1
    removed: int = 0

    @property
    def size(self) -> int:
        """Number of groups."""
        return len(self.groups)

    def nearest(self, kept: float, least: float) -> int:
        """The allowed number of groups to keep that is nearest to `kept`: a multiple of the step, or all.

        Args:
            kept: the wish.
            least: the share that must stay.
        """
        floor = max(1, math.ceil(least * self.size - 1e-9))
        below = [n for n in range(self.step, self.size, self.step) if n >= floor]
        return min([*below, self.size], key=lambda number: (abs(number - kept), -number))

    def fewer(self, least: float) -> int | None:
        """The next smaller allowed number of groups to keep; None at the end."""
        left = self.size - self.removed
        floor = max(1, math.ceil(least * self.size - 1e-9))
        lower = (left - 1) // self.step * self.step
        return lower if lower >= max(floor, self.step) else None


def find_families(
    space: ChannelSpace, scores: np.ndarray, block: int, layers: Collection[Node] | None = None
) -> list[Family]:
    """The families of a space that may lose members.

    Args:
        space: coupled channels.
        scores: of its groups.
        block: layers should have multiples of so many channels.
        layers: only families to which one of these contributes; all if None.
    """
    present: list[list[int]] = [[] for _ in range(space.count)]
    axes = list(space.labels)
    for number, axis in enumerate(axes):
        for group in np.unique(space.labels[axis]).tolist():
            present[group].append(number)
    produced: dict[ChannelAxis, set[Node]] = {}
    for item in space.producers:
        produced.setdefault(item.output, set()).add(item.node)
    removable = space.removable
    members: dict[tuple[int, ...], list[int]] = {}
    for group, where in enumerate(present):
        if removable[group]:
            members.setdefault(tuple(where), []).append(group)
    result = []
    for where, numbers in members.items():
        mine = tuple(axes[number] for number in where)
        nodes = set().union(*(produced.get(axis, set()) for axis in mine))
        if not nodes or (layers is not None and not nodes & set(layers)):
            continue
        result.append(_family(space, mine, np.array(numbers), scores, block, set(produced)))
    return result


def _family(
    space: ChannelSpace,
    axes: tuple[ChannelAxis, ...],
    groups: np.ndarray,
    scores: np.ndarray,
    block: int,
    produced: set[ChannelAxis],
) -> Family:
    order = np.argsort(scores[groups], kind="stable")
    groups = groups[order]
    raw = scores[groups]
    mean = float(raw.mean())
    removed = {}
    step = 1
    for axis in axes:
        number = np.bincount(space.labels[axis], minlength=space.count)[groups]
        removed[axis] = np.concatenate([[0], np.cumsum(number)])
        if axis in produced:
            step = math.lcm(step, block // math.gcd(block, int(number[0])))
    mine = set(axes)
    dense = sum(item.output in mine and not _is_depthwise(item.node) for item in space.producers)
    relative = raw / mean if mean > 0 else np.ones_like(raw)
    return Family(space, groups, relative, raw, axes, removed, step, max(1, dense))


def _is_depthwise(node: Node) -> bool:
    groups = node.attributes.get("groups", 1)
    return groups > 1 and groups == node.input(0).type.shape[1]


@dataclass
class Sizes:
    """The sizes of all axes while families shrink.

    Attributes:
        families: all of them.
        symbols: sizes of symbolic dimensions.
    """

    families: Sequence[Family]
    symbols: Mapping[str, int] = field(default_factory=dict)
    _by_axis: dict[tuple[Value, int], list[tuple[Family, ChannelAxis]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for family in self.families:
            for axis in family.axes:
                self._by_axis.setdefault((axis.value, axis.axis), []).append((family, axis))

    def type_of(self, value: Value) -> TensorType:
        """The type that a value has once the families' first groups are gone; constant vectors keep theirs."""
        shape = list(value.type.shape)
        for axis, size in enumerate(shape):
            for family, there in self._by_axis.get((value, axis), ()):
                if there.reader is None and isinstance(size, int):
                    size -= int(family.removed_indices[there][family.removed])
            shape[axis] = size
        return TensorType(value.type.dtype, tuple(shape)).bind(self.symbols)


def nodes_of(family: Family) -> list[Node]:
    """The nodes whose operands or results shrink with a family."""
    nodes: dict[Node, None] = {}
    for axis in family.axes:
        if axis.reader is not None:
            nodes[axis.reader[0]] = None
            continue
        nodes.update(dict.fromkeys(axis.value.users))
        if axis.value.producer is not None:
            nodes[axis.value.producer] = None
    return list(nodes)
