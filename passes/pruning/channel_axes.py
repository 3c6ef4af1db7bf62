"""The vocabulary of channel coupling: where channels lie, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from edgeir.ir import Node, Value

ALL = None
"""Stands for all indices of an axis in a `Refusal`."""


class ChannelAxis(NamedTuple):
    """An axis of a value, along which channels lie.

    Attributes:
        value: the tensor.
        axis: the axis.
        reader: for a constant vector, the node that reads it and the operand's position: every reader has a copy of
            its own, so that layers are not coupled by sharing, say, a bias of zeros. None otherwise.
    """

    value: Value
    axis: int
    reader: tuple[Node, int] | None = None

    @property
    def size(self) -> int:
        """Its number of indices."""
        size = self.value.type.shape[self.axis]
        assert isinstance(size, int)
        return size


class Place(NamedTuple):
    """An operand (`output` False) or result of a node, by position."""

    output: bool
    position: int


@dataclass(frozen=True)
class Link:
    """Index `source[k]` of the axis asked about goes together with index `target[k]` of another axis of the node.

    Attributes:
        place: the operand or result that the other axis belongs to.
        axis: the other axis.
        source, target: int64, equally long.
    """

    place: Place
    axis: int
    source: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class Refusal:
    """Indices that must stay, and why; all of the axis where `indices` is None."""

    reason: str
    indices: np.ndarray | None = ALL


@dataclass(frozen=True)
class Producer:
    """Weights whose output channels lie in a space.

    Attributes:
        node: the layer.
        weight: where its output channels lie in its weights (constants, or computed from constants).
        output: where they lie in its result.
    """

    node: Node
    weight: ChannelAxis
    output: ChannelAxis


@dataclass
class ChannelSpace:
    """Axes whose channels are coupled, and the sets of indices that can only be removed together ("groups").

    Attributes:
        labels: axis → group of each index, int64 (size of the axis).
        count: number of groups.
        refusals: group → why it must stay.
        producers: the layers that produce the channels.
    """

    labels: dict[ChannelAxis, np.ndarray]
    count: int
    refusals: dict[int, str] = field(default_factory=dict)
    producers: list[Producer] = field(default_factory=list)

    @property
    def removable(self) -> np.ndarray:
        """Which groups may be removed: bool (count)."""
        mask = np.ones(self.count, dtype=bool)
        mask[list(self.refusals)] = False
        return mask

    @property
    def name(self) -> str:
        """The result of the first producer."""
        return self.producers[0].output.value.name


Kept = Mapping[ChannelAxis, np.ndarray]
"""Axis → the indices that stay, ascending. Axes that are not named stay whole."""
