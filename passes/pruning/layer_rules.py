"""Which channels of operands and results go together: convolutions, products, normalisation, pooling, attention.

A rule answers one question: if indices of one axis of an operand or result go, which indices of the other operands and
results of the same node go with them, and which must stay. Contractions remove the products with both factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeir.ir import Node
from edgeir.ops.matmul import parse_equation
from edgeir.passes.pruning.channel_axes import Link, Place, Refusal

Answer = Iterator[Link | Refusal]
Rule = Callable[[Node, Place, int], Answer]

RESULT = Place(True, 0)


def same(node: Node, place: Place, axis: int, size: int) -> Iterator[Link]:
    """Index i with index i of another operand or result, unless that is absent."""
    if _is_there(node, place):
        indices = np.arange(size)
        yield Link(place, axis, indices, indices)


def _is_there(node: Node, place: Place) -> bool:
    return place.output or (place.position < len(node.inputs) and node.inputs[place.position] is not None)


def operand(position: int) -> Place:
    """The place of an operand."""
    return Place(False, position)


def size_of(node: Node, place: Place, axis: int) -> int:
    """The size of an axis of an operand or result; it is known to be static."""
    value = node.outputs[place.position] if place.output else node.input(place.position)
    size = value.type.shape[axis]
    assert isinstance(size, int)
    return size


@dataclass(frozen=True)
class _Filters:
    """How a convolution's weights hold its channels.

    Attributes:
        channels, outputs, groups: of the layer.
        outputs_axis, inputs_axis: of the weights.
        rows, columns: the weights' sizes along these axes.
    """

    channels: int
    outputs: int
    groups: int
    outputs_axis: int
    inputs_axis: int
    rows: int
    columns: int


def convolution(node: Node, place: Place, axis: int) -> Answer:
    """conv: x (N, C, …), w (O, C/groups, …), b (O) → (N, O, …)."""
    groups, (rows, columns) = node.attributes["groups"], node.input(1).type.shape[:2]
    if not (isinstance(rows, int) and isinstance(columns, int)):
        yield Refusal("conv has an unknown number of channels")
        return
    yield from _convolution(node, place, axis, _Filters(columns * groups, rows, groups, 0, 1, rows, columns))


def transposed_convolution(node: Node, place: Place, axis: int) -> Answer:
    """conv_transpose: x (N, C, …), w (C, O/groups, …), b (O) → (N, O, …)."""
    groups, (columns, rows) = node.attributes["groups"], node.input(1).type.shape[:2]
    if not (isinstance(rows, int) and isinstance(columns, int)):
        yield Refusal("conv_transpose has an unknown number of channels")
        return
    yield from _convolution(node, place, axis, _Filters(columns, rows * groups, groups, 1, 0, rows, columns))


def _convolution(node: Node, place: Place, axis: int, filters: _Filters) -> Answer:
    """Grouped convolutions lose the same channels of every group; depthwise ones lose groups."""
    weights = place == operand(1)
    if (weights and axis > 1) or (place in (RESULT, operand(0)) and axis != 1):
        yield Refusal(f"{node.op} slides over the axis" if axis > 1 else "the axis is a batch")
        return
    if filters.groups == filters.channels and filters.groups > 1:
        yield from _depthwise(node, place, axis, filters)
        return
    if place in (RESULT, operand(2)) or (weights and axis == filters.outputs_axis):
        inner = filters.outputs // filters.groups
        places = [
            (RESULT, 1, filters.outputs),
            (operand(1), filters.outputs_axis, filters.rows),
            (operand(2), 0, filters.outputs),
        ]
    else:
        inner = filters.channels // filters.groups
        places = [(operand(0), 1, filters.channels), (operand(1), filters.inputs_axis, filters.columns)]
    size = size_of(node, place, axis)
    for other, other_axis, count in places:
        if (other, other_axis) != (place, axis):
            yield from _modulo(node, other, other_axis, size, count, inner)
    if filters.groups > 1:
        # The same channels of every group go, so that the groups stay equally large.
        yield from _modulo(node, place, axis, size, size, inner)


def _depthwise(node: Node, place: Place, axis: int, filters: _Filters) -> Answer:
    """Every input channel with its own outputs: groups disappear whole."""
    many = filters.outputs // filters.channels
    # conv keeps one row of weights per output, conv_transpose one per input channel.
    rows = (operand(1), 0, many if filters.outputs_axis == 0 else 1)
    places = [(operand(0), 1, 1), (RESULT, 1, many), (operand(2), 0, many), rows]
    mine = [multiple for other, other_axis, multiple in places if (other, other_axis) == (place, axis)]
    if not mine:
        yield Refusal("the axis lies within the groups of a depthwise convolution")
        return
    source = np.arange(size_of(node, place, axis)) // mine[0]
    for other, other_axis, multiple in places:
        if _is_there(node, other):
            target = np.arange(filters.channels * multiple) // multiple
            yield _matching(other, other_axis, source, target)


def _modulo(node: Node, place: Place, axis: int, size: int, count: int, inner: int) -> Iterator[Link]:
    """Indices that are equal modulo `inner` (the number of channels of one group)."""
    if not _is_there(node, place):
        return
    if size == count == inner:
        yield from same(node, place, axis, size)
    else:
        source, target = np.arange(size), np.arange(count)
        yield _matching(place, axis, source % inner, target % inner)


def _matching(place: Place, axis: int, source: np.ndarray, target: np.ndarray) -> Link:
    """Links indices that have equal marks, each through the first index of its mark."""
    marks, first = np.unique(target, return_index=True)
    to = first[np.searchsorted(marks, source)]
    back_marks, back_first = np.unique(source, return_index=True)
    back = back_first[np.searchsorted(back_marks, target)]
    indices = np.arange(len(source)), np.arange(len(target))
    return Link(place, axis, np.concatenate([indices[0], back]), np.concatenate([to, indices[1]]))


def product(node: Node, place: Place, axis: int) -> Answer:
    """matmul: rows of a and columns of b with those of the result, K of a with K of b, leading axes as broadcast."""
    y = node.output.type
    ranks = {operand(0): node.input(0).type.rank, operand(1): node.input(1).type.rank, RESULT: y.rank}
    swap = {operand(0): node.attributes["transpose_a"], operand(1): node.attributes["transpose_b"], RESULT: False}

    def axis_of(where: Place, role: int) -> int:
        # Role -2 is the row, -1 the column of the matrix before transposition.
        return ranks[where] + (-3 - role if swap[where] else role)

    from_end = axis - ranks[place]
    size = size_of(node, place, axis)
    if from_end < -2:
        yield from aligned(node, place, axis, (0, 1))
        return
    role = -3 - from_end if swap[place] else from_end
    partner = {
        (operand(0), -2): (RESULT, -2),
        (operand(0), -1): (operand(1), -2),
        (operand(1), -2): (operand(0), -1),
        (operand(1), -1): (RESULT, -1),
        (RESULT, -2): (operand(0), -2),
        (RESULT, -1): (operand(1), -1),
    }[place, role]
    yield from same(node, partner[0], axis_of(*partner), size)


def aligned(node: Node, place: Place, axis: int, operands: tuple[int, ...]) -> Answer:
    """Operands and result that broadcast: the axes that lie above each other, unless they have size 1."""
    rank = node.output.type.rank
    value = node.outputs[0] if place.output else node.input(place.position)
    from_end = axis - value.type.rank
    size = size_of(node, place, axis)
    for other in (RESULT, *map(operand, operands)):
        if other == place:
            continue
        target = node.outputs[0] if other.output else node.inputs[other.position]
        if target is None or target.type.rank + from_end < 0:
            continue
        there = target.type.shape[from_end]
        if there == size:
            yield from same(node, other, target.type.rank + from_end, size)
        elif there != 1 or other.output:
            yield Refusal(f"{node.op} meets the axis with one of another size ({there}, rank {rank})")


def elementwise(node: Node, place: Place, axis: int) -> Answer:
    """Every operator that works element by element, with broadcasting; a table of values is not broadcast."""
    if node.op == "lookup":
        if place == operand(1):
            yield Refusal("the axis is a table of values")
            return
        yield from aligned(node, place, axis, (0,))
        return
    yield from aligned(node, place, axis, tuple(range(len(node.inputs))))


def passing(node: Node, place: Place, axis: int) -> Answer:
    """One operand and results of its shape; nothing happens along this axis."""
    size = size_of(node, place, axis)
    for other in (operand(0), *(Place(True, position) for position in range(len(node.outputs)))):
        if other != place:
            yield from same(node, other, axis, size)


def pooling(node: Node, place: Place, axis: int) -> Answer:
    """Pools, grid_sample and roi_align keep channels (axis 1) apart."""
    if place not in (operand(0), RESULT) or axis != 1:
        yield Refusal(f"{node.op} does not work on this axis index by index")
        return
    yield from same(node, operand(0) if place.output else RESULT, 1, size_of(node, place, 1))


def along(attribute: str) -> Rule:
    """An operator that mixes what lies along one axis (softmax, cum_sum, top_k) and keeps the others apart."""

    def rule(node: Node, place: Place, axis: int) -> Answer:
        if axis == node.attributes[attribute]:
            yield Refusal(f"{node.op} mixes the channels")
        else:
            yield from passing(node, place, axis)

    return rule


def extremum(node: Node, place: Place, axis: int) -> Answer:
    """arg_max and arg_min along one axis, which may disappear."""
    yield from _reduction(node, place, axis, (node.attributes["axis"],))


def reduction(node: Node, place: Place, axis: int) -> Answer:
    """reduce_*: axes that are not reduced keep their channels."""
    yield from _reduction(node, place, axis, node.attributes["axes"])


def _reduction(node: Node, place: Place, axis: int, axes: tuple[int, ...]) -> Answer:
    rank = node.input(0).type.rank
    kept = [item for item in range(rank) if item not in axes or node.attributes["keepdims"]]
    inner = kept[axis] if place.output else axis
    if inner in axes:
        yield Refusal(f"{node.op} mixes the channels")
    elif place.output:
        yield from same(node, operand(0), inner, size_of(node, place, axis))
    else:
        yield from same(node, RESULT, kept.index(inner), size_of(node, place, axis))


def batch_norm(node: Node, place: Place, axis: int) -> Answer:
    """x and the result along axis 1 with scale, bias, mean and variance."""
    parameter = not place.output and place.position > 0
    if not parameter and axis != 1:
        yield from passing(node, place, axis)
        return
    size = size_of(node, place, axis)
    for other, other_axis in ((operand(0), 1), (RESULT, 1), *((operand(position), 0) for position in range(1, 5))):
        if other != place:
            yield from same(node, other, other_axis, size)


def layer_norm(node: Node, place: Place, axis: int) -> Answer:
    """Axes before the normalised ones keep their channels; along the others the statistics would change."""
    if place not in (operand(0), RESULT) or axis >= node.attributes["axis"]:
        yield Refusal("layer_norm takes its statistics over the channels")
    else:
        yield from passing(node, place, axis)


def einstein(node: Node, place: Place, axis: int) -> Answer:
    """einsum: an axis goes with every axis of the same label; a label of one operand only is a sum, and stays."""
    ranks = [value.type.rank for value in node.present_inputs]
    labels, result = parse_equation(node.attributes["equation"], ranks)
    terms = {operand(position): term for position, term in enumerate(labels)} | {RESULT: result}
    label, size = terms[place][axis], size_of(node, place, axis)
    holders = [(where, term) for where, term in terms.items() if label in term]
    if any(term.count(label) > 1 for _, term in holders) or len(holders) < 2:
        yield Refusal("einsum sums over the channels or takes a diagonal")
        return
    for where, term in holders:
        if where == place:
            continue
        if size_of(node, where, term.index(label)) == size:
            yield from same(node, where, term.index(label), size)
        else:
            yield Refusal("einsum broadcasts along the axis")
            return
