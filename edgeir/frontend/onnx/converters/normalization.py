"""Normalisations: by given statistics, or by those of the data itself."""

from __future__ import annotations

from collections.abc import Sequence

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.protos import element_type
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value
from edgeir.ir.dims import floor_divide, product

_HALF = ("float16", "bfloat16")


@converter("BatchNormalization")
def batch_norm(node: ImportNode) -> Value:
    """Normalisation by given statistics per channel."""
    if node.attribute("training_mode", 0):
        node.unsupported("batch normalization in training mode")
    if node.attribute("spatial", 1) != 1:
        node.unsupported("statistics per element (spatial = 0)")
    if any(node.wants(index) for index in range(1, len(node.proto.output))):
        node.unsupported("updated statistics are for training")
    x = node.input(0)
    parameters = [node.input(index) for index in range(1, 5)]
    epsilon = node.attribute("epsilon", 1e-5)
    if x.type.rank == 1:
        columns = node.reshape(x, (*x.type.shape, 1))
        return node.reshape(node.emit("batch_norm", columns, *parameters, epsilon=epsilon), x.type.shape)
    return node.emit("batch_norm", x, *parameters, epsilon=epsilon)


def standardize(node: ImportNode, x: Value, axes: Sequence[int], epsilon: float) -> tuple[Value, Value, Value]:
    """(x − mean) / √(variance + epsilon) over some axes; also the mean and the inverse deviation (axes kept)."""
    mean = node.emit("reduce_mean", x, axes=axes, keepdims=True)
    centered = node.emit("sub", x, mean)
    variance = node.emit("reduce_mean", node.emit("mul", centered, centered), axes=axes, keepdims=True)
    deviation = node.emit("sqrt", node.emit("add", variance, node.scalar(epsilon, x)))
    inverse = node.emit("reciprocal", deviation)
    return node.emit("div", centered, deviation), mean, inverse


@converter("LayerNormalization")
def layer_norm(node: ImportNode) -> list[Value | None]:
    """Normalisation over the last axes, then scale and bias; the statistics on request."""
    x, scale, bias = node.input(0), node.input(1), node.optional(2)
    axis = node.axis(node.attribute("axis", -1), x.type.rank)
    epsilon = node.attribute("epsilon", 1e-5)
    stash = element_type(node.attribute("stash_type", 1))
    if not (node.wants(1) or node.wants(2)) and scale.type.rank <= x.type.rank - axis and stash == "float32":
        return [node.emit("layer_norm", x, scale, bias, axis=axis, epsilon=epsilon)]
    wide = node.cast(x, stash)
    y, mean, inverse = standardize(node, wide, range(axis, x.type.rank), epsilon)
    y = node.emit("mul", node.cast(y, x.type.dtype), scale)
    return [y if bias is None else node.emit("add", y, bias), mean, inverse]


@converter("InstanceNormalization")
def instance_norm(node: ImportNode) -> Value:
    """Normalisation over the spatial axes, then scale and bias per channel."""
    x = node.input(0)
    rank = x.type.rank
    if rank < 3:
        node.unsupported(f"no spatial axes in {x.type}")
    wide = node.cast(x, "float32") if x.type.dtype in _HALF else x
    y = node.cast(standardize(node, wide, range(2, rank), node.attribute("epsilon", 1e-5))[0], x.type.dtype)
    scale, bias = (node.along_axis(node.input(index), 1, rank) for index in (1, 2))
    return node.emit("add", node.emit("mul", y, scale), bias)


@converter("GroupNormalization")
def group_norm(node: ImportNode) -> Value:
    """Normalisation over groups of channels, then scale and bias per channel (per group before opset 21)."""
    x, groups = node.input(0), node.attribute("num_groups")
    n, channels, *spatial = x.type.shape
    if not groups or groups < 1:
        node.unsupported(f"num_groups {groups}")
    wide = node.cast(x, "float32") if x.type.dtype in _HALF and node.attribute("stash_type", 1) == 1 else x
    per_group = floor_divide(channels, groups)
    flat = node.reshape(wide, (n, groups, per_group * product(spatial)))
    y = standardize(node, flat, [2], node.attribute("epsilon", 1e-5))[0]
    y = node.cast(y, x.type.dtype)
    if node.opset < 21:
        scale, bias = (node.reshape(node.input(index), (groups, 1)) for index in (1, 2))
        return node.reshape(node.emit("add", node.emit("mul", y, scale), bias), x.type.shape)
    y = node.reshape(y, x.type.shape)
    scale, bias = (node.along_axis(node.input(index), 1, x.type.rank) for index in (1, 2))
    return node.emit("add", node.emit("mul", y, scale), bias)


@converter("LRN")
def lrn(node: ImportNode) -> Value:
    """x / (bias + alpha / size · Σx²)^beta, the sum over neighbouring channels."""
    x, size = node.input(0), node.attribute("size")
    n, channels, *spatial = x.type.shape
    rows = node.reshape(node.emit("mul", x, x), (n, 1, channels, product(spatial)))
    mean = node.emit(
        "average_pool",
        rows,
        kernel=(size, 1),
        strides=(1, 1),
        padding=((size - 1) // 2, 0, size // 2, 0),
        dilations=(1, 1),
        count_include_pad=True,
    )
    scaled = node.emit("mul", node.reshape(mean, x.type.shape), node.scalar(node.attribute("alpha", 1e-4), x))
    base = node.emit("add", scaled, node.scalar(node.attribute("bias", 1.0), x))
    return node.emit("div", x, node.emit("pow", base, node.scalar(node.attribute("beta", 0.75), x)))


@converter("LpNormalization")
def lp_normalization(node: ImportNode) -> Value:
    """x over its L1 or L2 norm along an axis; 0 where the norm is 0."""
    x, p = node.input(0), node.attribute("p", 2)
    axis = node.axis(node.attribute("axis", -1), x.type.rank)
    if p == 1:
        norm = node.emit("reduce_sum", node.emit("abs", x), axes=[axis], keepdims=True)
    elif p == 2:
        norm = node.emit("sqrt", node.emit("reduce_sum", node.emit("mul", x, x), axes=[axis], keepdims=True))
    else:
        node.unsupported(f"p = {p}")
    empty = node.emit("equal", norm, node.scalar(0, x))
    return node.emit("div", x, node.emit("where", empty, node.scalar(1, x), norm))
