"""Convolutions on a GPU as matrix products: weights times the patches of the image, which are never stored whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import te, tirx

from edgeir.schedules.conv_problem import ConvProblem, conv_problem
from edgeir.schedules.gpu_gemm import Gemm
from edgeir.schedules.gpu_matmul import DTYPES, GpuGemmTemplate
from edgeir.schedules.task import Task
from edgeir.schedules.tir_types import Expression


class GpuConv(GpuGemmTemplate):
    """Convolutions of plain layouts with more than a few channels on both sides; one group of them is one product."""

    name = "gpu_conv"

    def gemm(self, task: Task) -> Gemm | None:
        """The product that the task is, or None.

        Row o and column p of group (image, channel group) sum over k = (input channel, kernel position).
        """
        if task.anchor != "conv" or len(task.outputs) != 1 or task.outputs[0].shape != task.anchor_output.shape:
            return None
        specs = (*task.anchor_inputs[:2], task.anchor_output)
        if (
            len({s.dtype for s in specs}) > 1
            or specs[0].dtype not in DTYPES
            or any(s.layout not in ("", "NCHW") for s in specs)
        ):
            return None
        if 0 in (*specs[0].shape, *specs[1].shape, *specs[2].shape):
            return None
        problem = conv_problem(task)
        return Gemm(
            groups=problem.batch * problem.groups,
            rows=problem.out_group,
            columns=problem.pixels,
            depth=problem.in_group * math.prod(problem.kernel),
            out_shape=task.anchor_output.shape,
            row_axes=2,
            dtype=task.anchor_output.dtype,
            left=lambda inputs, g, o, k: _weight(problem, inputs[1], g, o, k),
            right=lambda inputs, g, k, p: _patch(problem, inputs[0], g, k, p),
        )


def unravel(flat: Expression, shape: Sequence[int]) -> list[Expression]:
    """The index of an element of a tensor, given its position in row-major order."""
    index = []
    for axis in range(len(shape)):
        inner = math.prod(shape[axis + 1 :])
        part = flat // inner if inner > 1 else flat
        index.append(part % shape[axis] if axis else part)
    return index


def _weight(problem: ConvProblem, weight: te.Tensor, g: Expression, o: Expression, k: Expression) -> Expression:
    channel = g % problem.groups * problem.out_group + o if problem.groups > 1 else o
    return weight(channel, *unravel(k, (problem.in_group, *problem.kernel)))


def _patch(problem: ConvProblem, x: te.Tensor, g: Expression, k: Expression, p: Expression) -> Expression:
    """The input element under kernel position k at output pixel p; zero in the padding."""
    channel, *offsets = unravel(k, (problem.in_group, *problem.kernel))
    index, inside = input_index(problem, g, channel, offsets, p)
    value = x(*index)
    return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, x.dtype)) if inside else value


def input_index(
    problem: ConvProblem, g: Expression, channel: Expression, offsets: Sequence[Expression], p: Expression
) -> tuple[list[Expression], list[Expression]]:
    """Where the input element under a kernel position lies, and the conditions under which it is not in the padding.

    Args:
        problem: the convolution.
        g: image and channel group.
        channel: input channel of the group.
        offsets: kernel position.
        p: output pixel.
    """
    pixel = unravel(p, problem.out_spatial)
    image = g
    if problem.groups > 1:
        image, channel = g // problem.groups, g % problem.groups * problem.in_group + channel
    at, inside = [], []
    for axis in range(problem.rank):
        position = pixel[axis] * problem.strides[axis] + offsets[axis] * problem.dilations[axis]
        position = position - problem.pads_begin[axis]
        if problem.pads_begin[axis]:
            inside.append(position >= 0)
        if problem.pads_end[axis]:
            inside.append(position < problem.in_spatial[axis])
        at.append(position)
    return [image, channel, *at], inside
