"""Sliding windows: how convolutions and pools index their input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeir.ir.types import TensorType, parse_layout
from edgeir.lowering import te
from edgeir.lowering.compute.expressions import Expression, constant
from edgeir.lowering.compute.registry import fixed


@dataclass(frozen=True)
class Channels:
    """How the channel axis (axis 1) of an activation lies in memory.

    Attributes:
        count: logical channels.
        block: channels of one block, the innermost axis; 0 where the layout is plain.
        rank: spatial axes.
    """

    count: int
    block: int
    rank: int

    @staticmethod
    def of(type: TensorType) -> Channels:
        """The channels of an activation (N, C, *S), plain or blocked on C."""
        block = 0
        if type.layout and len(type.physical_shape()) > type.rank:
            _, axis, block = parse_layout(type.layout)
            assert axis == 1
        return Channels(fixed(type.shape[1], str(type)), block, type.rank - 2)

    def channel(self, index: Sequence[Any]) -> Expression:
        """The logical channel of a physical index."""
        return index[1] * self.block + index[-1] if self.block else index[1]

    def spatial(self, index: Sequence[Any]) -> Sequence[Any]:
        """The spatial part of a physical index."""
        return index[2 : 2 + self.rank]

    def at(self, x: te.Tensor, batch: Any, channel: Any, spatial: Sequence[Any]) -> Expression:
        """An element by its logical index."""
        if not self.block:
            return x(batch, channel, *spatial)
        return x(batch, tirx.floordiv(channel, self.block), *spatial, tirx.floormod(channel, self.block))

    @property
    def has_lanes_beyond(self) -> bool:
        """Whether the last block has lanes that hold no channel."""
        return self.block > 0 and self.count % self.block > 0


def pad_spatial(x: te.Tensor, begins: Sequence[int], ends: Sequence[int], fill: Expression, name: str) -> te.Tensor:
    """`x` (N, C or blocks, *S, lanes?) with a border of `fill` on its spatial axes; itself if there is none."""
    if not any(begins) and not any(end > 0 for end in ends):
        return x
    rank = len(begins)
    shape = [int(extent) for extent in x.shape]
    extents = shape[2 : 2 + rank]
    for axis in range(rank):
        shape[2 + axis] += begins[axis] + max(0, ends[axis])

    def body(*index: Any) -> Expression:
        position, inside = list(index), []
        for axis in range(rank):
            place = 2 + axis
            position[place] = index[place] - begins[axis]
            if begins[axis]:
                inside.append(index[place] >= begins[axis])
            if ends[axis] > 0:
                inside.append(index[place] < begins[axis] + extents[axis])
        return tirx.if_then_else(tirx.all(*inside), x(*position), fill)

    return te.compute(shape, body, name=name)


def reach_beyond(
    sizes: Sequence[int],
    counts: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    begins: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """How far the last window reaches beyond the end of each axis; 0 where it does not."""  # fmt: skip
    return [
        max(0, (count - 1) * stride + (k - 1) * dilation + 1 - begin - size)
        for size, count, k, stride, begin, dilation in zip(
            sizes, counts, kernel, strides, begins, dilations, strict=True
        )
    ]


def zero(dtype: str) -> Expression:
    """The additive identity."""
    return constant(0, dtype)
