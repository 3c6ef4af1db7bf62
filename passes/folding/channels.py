"""Constants that vary along the output channels of a convolution or product, and weights scaled by them."""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node, Value
from edgeir.ir.dtype import FLOATS

CONVOLUTIONS = ("conv", "conv_transpose")
LINEAR = (*CONVOLUTIONS, "matmul")


def channel_axis(node: Node) -> int:
    """The axis of the output along which the weights' output channels lie."""
    return 1 if node.op in CONVOLUTIONS else node.output.type.rank - 1


def channel_count(node: Node) -> int:
    """Output channels of a linear operator with constant weights."""
    shape = node.input(1).data.shape
    if node.op == "conv":
        return shape[0]
    if node.op == "conv_transpose":
        return shape[1] * node.attributes["groups"]
    return shape[-2] if node.attributes["transpose_b"] else shape[-1]


def per_channel(constant: Value, node: Node) -> np.ndarray | None:
    """A constant that meets the node's output, as one float64 per output channel; None if it varies otherwise."""
    array, rank, axis = constant.data, node.output.type.rank, channel_axis(node)
    if array.ndim > rank:
        return None
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if any(size != 1 for position, size in enumerate(full.shape) if position != axis):
        return None
    channels = channel_count(node)
    if full.shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (channels,))


def why_not_linear(node: Node) -> str | None:
    """Why a linear operator's weights cannot absorb a scale or bias; None if they can."""
    weights = node.input(1)
    if not weights.is_constant:
        return "the weights are not constant"
    if weights.type.layout or node.output.type.layout:
        return "layouts were assigned already"
    if weights.type.dtype not in FLOATS:
        return "the weights are not floating-point"
    if node.op == "matmul" and weights.type.rank != 2:
        return "the weights are not one matrix"
    bias = bias_of(node)
    if bias is not None and not bias.is_constant:
        return "the bias is not constant"
    return None


def bias_of(node: Node) -> Value | None:
    """The bias operand, if the node has one."""
    return node.inputs[2] if len(node.inputs) > 2 else None


def bias_array(node: Node) -> np.ndarray:
    """The constant bias in float64, zeros if there is none; one element per output channel."""
    bias = bias_of(node)
    return np.zeros(channel_count(node)) if bias is None else bias.data.astype(np.float64)


def scaled_weights(node: Node, scale: np.ndarray) -> np.ndarray:
    """The weights with each output channel multiplied, rounded once to their own element type."""
    weights = node.input(1).data
    wide = weights.astype(np.float64)
    if node.op == "conv":
        result = wide * scale.reshape(-1, *(1,) * (wide.ndim - 1))
    elif node.op == "conv_transpose":
        groups = node.attributes["groups"]
        split = wide.reshape(groups, wide.shape[0] // groups, *wide.shape[1:])
        result = (split * scale.reshape(groups, 1, -1, *(1,) * (wide.ndim - 2))).reshape(wide.shape)
    else:
        result = wide * (scale[:, None] if node.attributes["transpose_b"] else scale)
    return result.astype(weights.dtype)
