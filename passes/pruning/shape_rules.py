"""Which channels of operands and results go together: operators that move elements."""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node
from edgeir.ir.dims import Dim, product
from edgeir.passes.pruning.channel_axes import Link, Place, Refusal
from edgeir.passes.pruning.layer_rules import RESULT, Answer, aligned, operand, passing, same, size_of

LARGEST = 1 << 22
"""Elements of a reshape that are looked at one by one."""


def reshape(node: Node, place: Place, axis: int) -> Answer:
    """Axes that a reshape splits or merges: index i goes with index k of the axis that carries the channels there.

    Row-major order gives every element an index along both axes; what shares an element goes together. Where an axis
    is split in several, one of them carries the channels: the first where the last axis of a tensor is split (heads of
    attention: H·D → H, D), else the one with most channels (a channel shuffle: G·C → G, C).
    """
    here = (node.output if place.output else node.input(0)).type.shape
    there = (node.input(0) if place.output else node.output).type.shape
    other = operand(0) if place.output else RESULT
    spans = _span(here, there, axis)
    if spans is None:
        yield Refusal("reshape merges the channels with an axis of unknown size")
        return
    (first, last), (other_first, other_last) = spans
    mine = [size for size in here[first:last] if isinstance(size, int)]
    theirs = [size for size in there[other_first:other_last] if isinstance(size, int)]
    total = int(np.prod(mine, dtype=np.int64))
    if total > LARGEST:
        yield Refusal("reshape of too many elements")
        return
    elements = np.arange(total)
    source = _coordinate(elements, mine, axis - first)
    choices = [position for position, size in enumerate(theirs) if size > 1]
    if not choices:
        yield Refusal("reshape leaves no axis for the channels")
        return
    if len(choices) > 1 and sum(size > 1 for size in mine) == 1 and axis == len(here) - 1 and len(here) <= 3:
        chosen = choices[0]
    else:
        chosen = max(choices, key=lambda position: (_components(mine, axis - first, theirs[position]), -position))
    target = _coordinate(elements, theirs, chosen)
    pairs = np.unique(source * theirs[chosen] + target)
    yield Link(other, other_first + chosen, pairs // theirs[chosen], pairs % theirs[chosen])


def _components(mine: list[int], position: int, size: int) -> int:
    # Along a merged or split axis no more groups can stay apart than the smaller axis has indices.
    return min(mine[position], size)


def _coordinate(elements: np.ndarray, shape: list[int], position: int) -> np.ndarray:
    inner = int(np.prod(shape[position + 1 :], dtype=np.int64))
    return elements // inner % shape[position]


def _span(here: tuple[Dim, ...], there: tuple[Dim, ...], axis: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The smallest ranges of axes around `axis` that hold the same elements on both sides; None if not static."""
    products = [[product(shape[:end]) for end in range(len(shape) + 1)] for shape in (here, there)]
    start, end = 0, len(here)
    other_start, other_end = 0, len(there)
    for position, mine in enumerate(products[0]):
        for other, theirs in enumerate(products[1]):
            if mine != theirs:
                continue
            if position <= axis and (position, other) >= (start, other_start):
                start, other_start = position, other
            if position > axis and position <= end and (position < end or other < other_end):
                end, other_end = position, other
    other_end = max(other_start, other_end)
    static = all(isinstance(size, int) for size in (*here[start:end], *there[other_start:other_end]))
    return ((start, end), (other_start, other_end)) if static else None


def transpose(node: Node, place: Place, axis: int) -> Answer:
    """Axis i of the result is axis perm[i] of the operand."""
    perm = node.attributes["perm"]
    size = size_of(node, place, axis)
    if place.output:
        yield from same(node, operand(0), perm[axis], size)
    else:
        yield from same(node, RESULT, perm.index(axis), size)


def concat(node: Node, place: Place, axis: int) -> Answer:
    """Along the joined axis with an offset; along others all operands lose the same."""
    if axis != node.attributes["axis"]:
        for other in (RESULT, *map(operand, range(len(node.inputs)))):
            if other != place:
                yield from same(node, other, axis, size_of(node, place, axis))
        return
    offset = 0
    for position in range(len(node.inputs)):
        size = node.input(position).type.shape[axis]
        if not isinstance(size, int):
            yield Refusal("concat joins axes of unknown size")
            return
        inner = np.arange(size)
        if place.output:
            yield Link(operand(position), axis, inner + offset, inner)
        elif place.position == position:
            yield Link(RESULT, axis, inner, inner + offset)
        offset += size


def slicing(node: Node, place: Place, axis: int) -> Answer:
    """Element i of the result is element start + i·step of the operand."""
    start, size, step = (node.attributes[name][axis] for name in ("starts", "sizes", "steps"))
    whole = node.input(0).type.shape[axis]
    if not all(isinstance(item, int) for item in (start, size, whole)):
        yield Refusal("slice takes an unknown part of the channels")
        return
    if step != 1:
        yield Refusal("slice takes channels with a step")
        return
    inner = np.arange(size)
    if place.output:
        yield Link(operand(0), axis, inner, inner + start)
    else:
        yield Link(RESULT, axis, inner + start, inner)


def pad(node: Node, place: Place, axis: int) -> Answer:
    """Element i of the operand is element begin + i of the result; a border along the channels may go too."""
    if place == operand(1):
        return
    begin, end = node.attributes["padding"][axis], node.attributes["padding"][axis + node.input(0).type.rank]
    if (begin or end) and node.attributes["mode"] != "constant":
        yield Refusal("pad repeats channels")
        return
    size = size_of(node, operand(0), axis)
    inner = np.arange(size)
    if place.output:
        yield Link(operand(0), axis, inner + begin, inner)
    else:
        yield Link(RESULT, axis, inner, inner + begin)


def tile(node: Node, place: Place, axis: int) -> Answer:
    """All copies of an index go together."""
    size, whole = node.input(0).type.shape[axis], node.output.type.shape[axis]
    if not (isinstance(size, int) and isinstance(whole, int)):
        yield Refusal("tile repeats an unknown number of channels")
        return
    copies = np.arange(whole)
    if place.output:
        yield Link(operand(0), axis, copies, copies % size)
    else:
        yield Link(RESULT, axis, copies % size, copies)


def expand(node: Node, place: Place, axis: int) -> Answer:
    """As broadcasting does; an axis that appears from nothing has no other side."""
    from_end = axis - (node.output.type.rank if place.output else node.input(0).type.rank)
    x = node.input(0).type
    if place.output and (x.rank + from_end < 0 or x.shape[from_end] == 1):
        return
    yield from aligned(node, place, axis, (0,))


def resize(node: Node, place: Place, axis: int) -> Answer:
    """Axes that keep their size keep their channels."""
    if place not in (operand(0), RESULT) or node.attributes["roi"] is not None:
        yield Refusal("resize reads a region")
    elif node.attributes["scales"][axis] != 1 or node.input(0).type.shape[axis] != node.output.type.shape[axis]:
        yield Refusal("resize interpolates along the axis")
    else:
        yield from passing(node, place, axis)


def gather(node: Node, place: Place, axis: int) -> Answer:
    """Whole slices along one axis: with constant indices, index j of the result is index indices[j] of the table."""
    along, x = node.attributes["axis"], node.input(0).type
    indices = node.input(1)
    if place == operand(1):
        yield Refusal("the axis counts indices")
        return
    count = indices.type.rank
    if place.output:
        if along <= axis < along + count:
            if count != 1 or not indices.is_constant:
                yield Refusal("gather chooses channels by computed indices")
                return
            yield Link(operand(0), along, np.arange(indices.data.size), _chosen(node))
        else:
            inner = axis if axis < along else axis - count + 1
            yield from same(node, operand(0), inner, size_of(node, place, axis))
    elif axis == along:
        if count > 1 or not indices.is_constant or not isinstance(x.shape[axis], int):
            yield Refusal("gather chooses channels by computed indices")
        elif count == 1:
            yield Link(RESULT, along, _chosen(node), np.arange(indices.data.size))
        else:
            yield Refusal("gather takes one channel", np.asarray(_chosen(node)).reshape(1))
    else:
        yield from same(node, RESULT, axis if axis < along else axis + count - 1, size_of(node, place, axis))


def _chosen(node: Node) -> np.ndarray:
    size = size_of(node, operand(0), node.attributes["axis"])
    indices = node.input(1).data.astype(np.int64)
    return np.where(indices < 0, indices + size, indices)
