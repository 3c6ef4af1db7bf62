"""The numbers of one convolution, read from a task."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgeir.errors import EdgeIRError
from edgeir.schedules.task import Task, TensorSpec

_BLOCKED = re.compile(r"^NCHW(\d+)c$")


def channel_block(spec: TensorSpec) -> int:
    """Elements of a channel block of a tensor in `NCHW{b}c` layout; 0 for a plain layout.

    Raises:
        EdgeIRError: the layout is unknown, or does not fit the physical shape.
    """
    matched = _BLOCKED.match(spec.layout)
    if matched:
        block = int(matched.group(1))
        if len(spec.shape) != 5 or spec.shape[4] != block:
            raise EdgeIRError(
                "a tensor's physical shape does not fit its layout",
                expected=f"5 dimensions for {spec.layout}",
                got=spec,
            )
        return block
    if spec.layout not in ("", "NCHW", "NCW", "NCDHW"):
        raise EdgeIRError("unknown activation layout", expected="NCHW, NCHW{b}c", got=spec.layout)
    return 0


@dataclass(frozen=True)
class ConvProblem:
    """One convolution in logical terms, with the physical blocking of its activations.

    Attributes:
        batch: number of images.
        in_channels: logical input channels.
        out_channels: logical output channels.
        in_spatial: input extents after the channel axis.
        out_spatial: output extents after the channel axis.
        kernel: kernel extents.
        strides: strides per spatial axis.
        pads_begin: zeros before each spatial axis.
        pads_end: zeros after each spatial axis that the output needs (never negative).
        dilations: dilations per spatial axis.
        groups: number of channel groups.
        in_block: channel block of the input; 0 if plain.
        out_block: channel block of the output; 0 if plain.
        weight_operand: index of the operand that holds the weight, if it is read directly and constant.
    """

    batch: int
    in_channels: int
    out_channels: int
    in_spatial: tuple[int, ...]
    out_spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    in_block: int
    out_block: int
    weight_operand: int | None

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def padded(self) -> bool:
        """Whether any output reads beyond the input."""
        return any(self.pads_begin) or any(self.pads_end)

    @property
    def in_group(self) -> int:
        """Input channels of one group."""
        return self.in_channels // self.groups

    @property
    def out_group(self) -> int:
        """Output channels of one group."""
        return self.out_channels // self.groups

    @property
    def in_blocks(self) -> int:
        """Channel blocks of a blocked input."""
        return math.ceil(self.in_channels / self.in_block)

    @property
    def out_blocks(self) -> int:
        """Channel blocks of a blocked output."""
        return math.ceil(self.out_channels / self.out_block)

    @property
    def pixels(self) -> int:
        """Output pixels of one image."""
        return math.prod(self.out_spatial)

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved by itself, into one output channel."""
        return self.groups == self.in_channels == self.out_channels and self.groups > 1

    def padded_extent(self, axis: int) -> int:
        """Input extent along a spatial axis that the outputs read, zeros included."""
        reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        return (self.out_spatial[axis] - 1) * self.strides[axis] + reach


def conv_problem(task: Task) -> ConvProblem:
    """Reads a `conv` or `conv_integer` task.

    Raises:
        EdgeIRError: the task is no convolution, or its numbers contradict each other.
    """
    if task.anchor not in ("conv", "conv_integer"):
        raise EdgeIRError("not a convolution", where=task.name, expected="conv or conv_integer", got=task.anchor)
    x, w = task.anchor_inputs[:2]
    in_block, out_block = channel_block(x), channel_block(task.anchor_output)
    groups = int(task.attributes["groups"])
    rank = len(w.shape) - 2
    strides = tuple(int(v) for v in task.attributes["strides"])
    padding = tuple(int(v) for v in task.attributes["padding"])
    dilations = tuple(int(v) for v in task.attributes["dilations"])
    if len(strides) != rank or len(dilations) != rank or len(padding) != 2 * rank:
        raise EdgeIRError(
            "a convolution's attributes do not fit its weight", where=task.name, expected=f"{rank} spatial axes"
        )
    in_spatial = tuple(x.shape[2 : 2 + rank])
    out_spatial = tuple(task.anchor_output.shape[2 : 2 + rank])
    kernel = tuple(w.shape[2:])
    needed = tuple(
        (out - 1) * stride + (k - 1) * dilation + 1
        for out, stride, k, dilation in zip(out_spatial, strides, kernel, dilations, strict=True)
    )
    pads_begin = padding[:rank]
    pads_end = tuple(
        max(0, need - begin - extent) for need, begin, extent in zip(needed, pads_begin, in_spatial, strict=True)
    )
    index = task.anchor_operands[1]
    constant = index is not None and task.operands[index].constant
    return ConvProblem(
        batch=x.shape[0],
        in_channels=w.shape[1] * groups,
        out_channels=w.shape[0],
        in_spatial=in_spatial,
        out_spatial=out_spatial,
        kernel=kernel,
        strides=strides,
        pads_begin=pads_begin,
        pads_end=pads_end,
        dilations=dilations,
        groups=groups,
        in_block=in_block,
        out_block=out_block,
        weight_operand=index if constant else None,
    )


def is_plain_float_conv(task: Task) -> bool:
    """Whether a task is a float32 convolution with one output of the convolution's own shape."""
    return (
        task.anchor == "conv"
        and all(spec.dtype == "float32" for spec in (*task.anchor_inputs, task.anchor_output))
        and len(task.outputs) == 1
        and task.outputs[0].shape == task.anchor_output.shape
    )
