"""Kernels of other templates with a compressed constant: it lies in memory as they pack it, and is decoded first.

A packed constant is the logical one with its axes split and moved, which is all that this module needs to know of a
template. The constant is decoded into a temporary of the packed shape, once each time that the kernel runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.errors import EdgeIRError
from edgeir.schedules.compressed_weights import decoded_element, pack_pairs, pair_element
from edgeir.schedules.task import AnchorCompute, Compressed, Kernel, Task
from edgeir.schedules.template import Config, Template
from edgeir.targets.target import Target

DECODED = "decoded_constant"


@dataclass(frozen=True)
class PackedForm:
    """How a template packs a constant.

    Attributes:
        axes: for each packed axis the logical axis that it is a digit of, most significant digits first; None for an
            axis of length 1 that the constant does not have.
        paired: the packed axis along which 4-bit numbers share a byte, the last one with none if their number is odd;
            None for none.
    """

    axes: tuple[int | None, ...]
    paired: int | None = None

    def covered(self, shape: Sequence[int], axis: int) -> int:
        """Length of a logical axis that a packed constant has room for."""
        return math.prod(n for n, of in zip(shape, self.axes, strict=True) if of == axis)

    def logical(self, shape: Sequence[int], place: Sequence[Any], rank: int) -> list[Any]:
        """Where the element at `place` of a packed constant stands in the logical one of `rank` axes."""
        index: list[Any] = [None] * rank
        for digit, extent, axis in zip(place, shape, self.axes, strict=True):
            if axis is not None:
                index[axis] = digit if index[axis] is None else index[axis] * extent + digit
        return [0 if position is None else position for position in index]

    def packed(self, shape: Sequence[int], index: Sequence[Any]) -> list[Any]:
        """The inverse of `logical`."""
        place: list[Any] = []
        for position, axis in enumerate(self.axes):
            if axis is None:
                place.append(0)
                continue
            inner = self.covered_from(shape, axis, position + 1)
            outermost = axis not in self.axes[:position]
            value = index[axis] // inner if inner > 1 else index[axis]
            place.append(value if outermost else value % shape[position])
        return place

    def covered_from(self, shape: Sequence[int], axis: int, start: int) -> int:
        """Product of an axis' digits from packed axis `start` on."""
        return math.prod(shape[p] for p in range(start, len(shape)) if self.axes[p] == axis)

    def pairs(self, compressed: Compressed, shape: Sequence[int]) -> bool:
        """Whether two numbers share a byte."""
        return compressed.bits == 4 and self.paired is not None


def form_of(task: Task, shape: Sequence[int]) -> PackedForm:
    """How the templates for convolutions and integer products pack a right operand, known by its packed rank.

    Raises:
        EdgeIRError: none of them packs so.
    """
    forms: dict[int, PackedForm] = {}
    if task.anchor in ("conv", "conv_integer"):
        # Of O, I, KH, KW: `conv_depthwise`, `integer_depthwise_stages` and `conv_dense`.
        forms = {
            4: PackedForm((0, 2, 3, 0), 0),
            5: PackedForm((0, 2, 3, 0, 3), 4),
            7: PackedForm((0, 1, 2, 3, 1, 0, 0), 4),
        }
    elif task.anchor == "matmul_integer":
        rank = len(task.anchor_inputs[1].shape)
        k, n = (rank - 1, rank - 2) if task.attributes.get("transpose_b") else (rank - 2, rank - 1)
        forms = {6: PackedForm((None, n, k, n, n, k), 2), 7: PackedForm((None, n, k, n, k, n, k), 2)}
    if len(shape) not in forms:
        raise EdgeIRError("a packed constant of unknown form", where=task.name, got=list(shape))
    return forms[len(shape)]


class DecodingTemplate:
    """Takes the tasks of other templates whose right operand is a compressed constant."""

    name = "decoding"
    templates: tuple[Template, ...] = ()
    """Templates that pack the operand by moving its elements, in order of preference."""
    anchors: tuple[str, ...] = ()

    def match(self, task: Task, target: Target) -> bool:
        """Whether the right operand is a compressed constant, and one of the templates takes the task without it."""
        return task.anchor in self.anchors and task.compressed is not None and self._find(task, target) is not None

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """The knobs of the other template."""
        return self._required(task, target).space(_plain_task(task, []), target)

    def default(self, task: Task, target: Target) -> Config:
        """The other template's choice."""
        return self._required(task, target).default(_plain_task(task, []), target)

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The other template's kernel; its workspace holds the decoded constant too."""
        compressed = task.compressed
        assert compressed is not None
        shapes: list[tuple[int, ...]] = []
        kernel = self._required(task, target).apply(_plain_task(task, shapes), config, target)
        shape = shapes[-1]
        form, move = form_of(task, shape), kernel.pack[compressed.operand]

        def pack(array: np.ndarray) -> np.ndarray:
            moved = move(array).astype(array.dtype)
            if not form.pairs(compressed, shape):
                return moved
            assert form.paired is not None
            return pack_pairs(moved, form.paired)

        decoded = math.prod(shape) * np.dtype(task.anchor_inputs[1].dtype).itemsize
        return Kernel(kernel.func, {compressed.operand: pack}, kernel.workspace_bytes + decoded)

    def _find(self, task: Task, target: Target) -> Template | None:
        plain = _plain_task(task, [])
        return next((template for template in self.templates if template.match(plain, target)), None)

    def _required(self, task: Task, target: Target) -> Template:
        template = self._find(task, target)
        if template is None:
            raise EdgeIRError("no template takes the task with a decoded constant", where=task.name)
        return template


def _plain_task(task: Task, shapes: list[tuple[int, ...]]) -> Task:
    """The task as one whose right operand is a constant of its own.

    Args:
        task: a task with a compressed right operand.
        shapes: receives the packed shape that a template asks for.
    """
    compressed = task.compressed
    assert compressed is not None
    index, dtype = compressed.operand, task.operands[compressed.operand].spec.dtype
    logical = task.anchor_inputs[1]

    def build(
        anchor: AnchorCompute | None = None, packed: Mapping[int, tuple[int, ...]] | None = None
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        if anchor is None or packed is None:
            return task.build(anchor, packed)
        shape, compute = packed[index], anchor
        shapes.append(shape)
        form = form_of(task, shape)
        paired = form.pairs(compressed, shape)
        stored = tuple(-(-n // 2) if paired and axis == form.paired else n for axis, n in enumerate(shape))

        def view(constant: Any, position: Sequence[Any]) -> Any:
            place = form.packed(shape, position)
            if not paired:
                return constant[tuple(place)]
            assert form.paired is not None
            return pair_element(constant, place, form.paired, dtype)

        def decoded(inputs: Sequence[te.Tensor]) -> te.Tensor:
            return compute([inputs[0], _decoded(inputs[1], form, shape, logical.shape, logical.dtype), *inputs[2:]])

        return compressed.build(decoded, stored, view)

    operands = (task.anchor_operands[0], index, *task.anchor_operands[2:])
    return replace(task, anchor_operands=operands, build=build, compressed=None)


def _decoded(
    constant: te.Tensor, form: PackedForm, shape: tuple[int, ...], logical: tuple[int, ...], dtype: str
) -> te.Tensor:
    """The decoded constant in packed form, zeros where a block is not full."""

    def element(*place: Any) -> Any:
        index = form.logical(shape, place, len(logical))
        beyond = [axis for axis, extent in enumerate(logical) if form.covered(shape, axis) > extent]
        value = decoded_element(constant, index)
        if not beyond:
            return value
        inside = tirx.all(*[index[axis] < logical[axis] for axis in beyond])
        return tirx.if_then_else(inside, value, tirx.const(0, dtype))

    stage = te.compute(shape, element, name=DECODED)
    assert isinstance(stage, te.Tensor)
    return stage
