"""Which channels go together, operator by operator; every case is compared with the masked network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import edgeir.passes  # noqa: F401 (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Value
from edgeir.passes.pruning.coupling import channel_spaces
from tests.passes.pruning.masked_channels import assert_equals_masked, prune

_random = np.random.default_rng(7)
POINT = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilations": (1, 1)}
WINDOW = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}


def weight(*shape: int) -> np.ndarray:
    return _random.standard_normal(shape).astype(np.float32)


def conv(
    b: Builder, x: Value, outputs: int, kernel: int = 1, groups: int = 1, name: str = "", bias: bool = True
) -> Value:
    channels = x.type.static_shape[1]
    w = weight(outputs, channels // groups, kernel, kernel)
    operands = [x, w, weight(outputs)] if bias else [x, w]
    return b.conv(*operands, groups=groups, name=name, **(WINDOW if kernel == 3 else POINT))


def linear(b: Builder, x: Value, outputs: int, name: str = "") -> Value:
    return b.add(b.matmul(x, weight(x.type.static_shape[-1], outputs), name=name), weight(outputs))


def image(b: Builder, channels: int = 3, size: int = 5) -> Value:
    return b.input("x", f"float32[2, {channels}, {size}, {size}]")


def residual(b: Builder) -> Value:
    x = conv(b, image(b), 8, 3, name="first")
    y = conv(b, b.relu(conv(b, x, 12, 3, name="inner")), 8, 3, name="second")
    return conv(b, b.relu(b.add(x, y)), 4, name="last")


def squeeze_and_excite(b: Builder) -> Value:
    x = b.relu(conv(b, image(b), 8, 3, name="first"))
    s = b.reduce_mean(x, axes=(2, 3), keepdims=True)
    gate = b.sigmoid(conv(b, b.relu(conv(b, s, 4, name="squeeze")), 8, name="excite"))
    return conv(b, b.mul(x, gate), 4, name="last")


def depthwise(b: Builder) -> Value:
    x = b.clip(conv(b, image(b), 8, name="first"), minimum=0.0, maximum=6.0)
    return conv(b, conv(b, x, 16, 3, groups=8, name="depthwise"), 4, name="last")


def grouped(b: Builder) -> Value:
    x = conv(b, image(b), 12, name="first")
    return conv(b, b.relu(conv(b, x, 8, 3, groups=2, name="grouped")), 4, name="last")


def shuffled(b: Builder) -> Value:
    x = conv(b, image(b), 12, name="first")
    x = b.reshape(b.transpose(b.reshape(x, shape=(2, 2, 6, 5, 5)), perm=(0, 2, 1, 3, 4)), shape=(2, 12, 5, 5))
    return conv(b, x, 4, name="last")


def concatenated(b: Builder) -> Value:
    x = image(b)
    joined = b.concat(conv(b, x, 8, name="left"), x, conv(b, x, 6, name="right"), axis=1)
    return conv(b, b.sin(joined), 4, name="last")


def split(b: Builder) -> Value:
    x = conv(b, image(b), 12, name="first")
    left = b.slice(x, starts=(0, 0, 0, 0), sizes=(2, 6, 5, 5), steps=(1, 1, 1, 1))
    right = b.slice(x, starts=(0, 6, 0, 0), sizes=(2, 6, 5, 5), steps=(1, 1, 1, 1))
    return conv(b, b.mul(left, b.sigmoid(right)), 4, name="last")


def flattened(b: Builder) -> Value:
    pooled = b.max_pool(
        conv(b, image(b, size=6), 8, 3, name="first"),
        **{"kernel": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilations": (1, 1)},
    )
    return linear(b, b.reshape(pooled, shape=(2, 8 * 9)), 4, name="last")


def channels_last(b: Builder) -> Value:
    x = b.transpose(conv(b, image(b), 8, name="first"), perm=(0, 2, 3, 1))
    return linear(b, b.reshape(x, shape=(2, 25, 8)), 4, name="last")


def normalized(b: Builder) -> Value:
    x = conv(b, image(b), 8, name="first", bias=False)
    variance = np.abs(weight(8)) + 0.5
    return conv(b, b.batch_norm(x, weight(8), weight(8), weight(8), variance, epsilon=1e-5), 4, name="last")


def padded_shortcut(b: Builder) -> Value:
    """The shortcut of a ResNet of type A: channels that are missing are zeros."""
    x = conv(b, image(b), 6, name="first")
    short = b.pad(x, None, padding=(0, 2, 0, 0, 0, 4, 0, 0))
    return conv(b, b.add(short, conv(b, x, 12, 3, name="second")), 4, name="last")


def upsampled(b: Builder) -> Value:
    x = conv(b, image(b), 8, name="first")
    big = b.resize(x, sizes=(2, 8, 10, 10), scales=(1.0, 1.0, 2.0, 2.0), mode="nearest", nearest_mode="floor",
                   coordinate_transformation="asymmetric")  # fmt: skip
    deep = b.conv_transpose(big, weight(8, 6, 2, 2), weight(6), name="up", output_padding=(0, 0), groups=1, **POINT)
    return conv(b, deep, 4, name="last")


def transposed_depthwise(b: Builder) -> Value:
    x = conv(b, image(b), 8, name="first")
    up = b.conv_transpose(x, weight(8, 1, 2, 2), weight(8), name="up", output_padding=(0, 0), groups=8, **POINT)
    return conv(b, up, 4, name="last")


def transposed_grouped(b: Builder) -> Value:
    x = conv(b, image(b), 8, name="first")
    up = b.conv_transpose(x, weight(8, 3, 2, 2), weight(6), name="up", output_padding=(0, 0), groups=2, **POINT)
    return conv(b, up, 4, name="last")


def attention(b: Builder) -> Value:
    """Four heads of three channels; whole heads go."""
    x = b.input("x", "float32[2, 7, 10]")

    def heads(name: str) -> Value:
        return b.transpose(b.reshape(linear(b, x, 12, name=name), shape=(2, 7, 4, 3)), perm=(0, 2, 1, 3))

    scores = b.softmax(b.matmul(heads("query"), heads("key"), transpose_b=True), axis=3)
    mixed = b.reshape(b.transpose(b.matmul(scores, heads("value")), perm=(0, 2, 1, 3)), shape=(2, 7, 12))
    return linear(b, mixed, 5, name="last")


def gathered(b: Builder) -> Value:
    x = conv(b, image(b), 8, name="first")
    return conv(b, b.gather(x, np.array([7, 1, -2, 3, 0, 2, 4, 5]), axis=1), 4, name="last")


def summed_by_einsum(b: Builder) -> Value:
    x = b.reshape(conv(b, image(b), 8, name="first"), shape=(2, 8, 25))
    return b.node("einsum", x, b.constant(weight(8, 4)), equation="bcs,co->bso").output


def tiled(b: Builder) -> Value:
    x = conv(b, image(b), 4, name="first")
    return conv(b, b.tile(x, repeats=(1, 2, 1, 1)), 4, name="last")


def computed_weights(b: Builder) -> Value:
    """Weights that are dequantized on the way, as in int8 models."""
    x = b.input("x", "float32[3, 6]")
    codes = b.constant(_random.integers(-9, 9, (6, 8)).astype(np.int8))
    scaled = b.mul(b.cast(codes, dtype="float32"), np.float32(0.1) * np.ones((1, 8), np.float32))
    return linear(b, b.relu(b.matmul(x, scaled, name="first")), 4, name="last")


def weights_on_the_left(b: Builder) -> Value:
    x = b.input("x", "float32[2, 6, 5]")
    return b.matmul(weight(4, 8), b.relu(b.matmul(weight(8, 6), x, name="first")), name="last")


def shared_weights(b: Builder) -> Value:
    """Two towers with the same weights lose the same channels, and still share."""
    first, second = b.constant(weight(8, 3, 1, 1)), b.constant(weight(4, 8, 1, 1))
    x = image(b)
    towers = [b.relu(b.conv(item, first, groups=1, **POINT)) for item in (x, b.neg(x))]
    return b.sub(*(b.conv(item, second, groups=1, **POINT) for item in towers))


# Network → the channels of layers that are left at ratio 0.5.
CASES: dict[Callable[[Builder], Value], dict[str, int]] = {
    residual: {"first": 4, "inner": 6, "second": 4, "last": 4},
    squeeze_and_excite: {"first": 4, "squeeze": 2, "excite": 4},
    depthwise: {"first": 4, "depthwise": 8},
    grouped: {"first": 6, "grouped": 4},
    shuffled: {"first": 6},
    concatenated: {"left": 4, "right": 3},
    split: {"first": 6},
    flattened: {"first": 4},
    channels_last: {"first": 4},
    normalized: {"first": 4},
    padded_shortcut: {"first": 3},
    upsampled: {"first": 4, "up": 3},
    transposed_depthwise: {"first": 4, "up": 4},
    transposed_grouped: {"first": 4, "up": 4},
    attention: {"query": 6, "key": 6, "value": 6},
    gathered: {"first": 4},
    summed_by_einsum: {"first": 4},
    tiled: {"first": 2},
    computed_weights: {"first": 4},
    weights_on_the_left: {"first": 4},
    shared_weights: {},
}


def build(network: Callable[[Builder], Value]) -> Graph:
    b = Builder(network.__name__)
    return b.outputs(y=network(b))


@pytest.mark.parametrize("network", CASES, ids=lambda network: network.__name__)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.7])
def test_pruned_equals_masked(network: Callable[[Builder], Value], ratio: float) -> None:
    graph = build(network)
    before = str(graph)
    pruned, report = prune(graph, ratio=ratio)
    assert report.removed
    assert str(graph) == before
    assert_equals_masked(graph, pruned, report)
    if ratio == 0.5:
        axis = 1
        for name, channels in CASES[network].items():
            value = pruned.value(name)
            axis = 1 if "conv" in str(value.producer) or value.type.rank == 4 else -1
            axis = -2 if network is weights_on_the_left else axis
            assert value.type.shape[axis] == channels, name


def test_towers_still_share_their_weights() -> None:
    pruned, _ = prune(build(shared_weights), ratio=0.5)
    shapes = sorted(value.type.static_shape for value in pruned.constants)
    assert shapes == [(4, 3, 1, 1), (4, 4, 1, 1)]


def test_a_bias_of_zeros_that_two_layers_read_does_not_couple_them() -> None:
    b = Builder("shared bias")
    zeros = b.constant(np.zeros(8, np.float32))
    x = b.relu(b.conv(image(b), weight(8, 3, 1, 1), zeros, name="first", groups=1, **POINT))
    y = b.conv(x, weight(8, 8, 1, 1), zeros, name="second", groups=1, **POINT)
    graph = b.outputs(y=conv(b, y, 4))
    assert [space.name for space in channel_spaces(graph)] == ["first", "second", graph.outputs[0].name]
    pruned, report = prune(graph, ratio=0.5, layers=("first",))
    assert pruned.value("first").type.shape[1] == 4 and pruned.value("second").type.shape[1] == 8
    assert_equals_masked(graph, pruned, report)


def layer_normalized(b: Builder) -> Value:
    x = linear(b, b.input("x", "float32[2, 6]"), 8, name="first")
    return linear(b, b.layer_norm(x, weight(8), weight(8), axis=1, epsilon=1e-5), 4)


def softmaxed(b: Builder) -> Value:
    return linear(b, b.softmax(linear(b, b.input("x", "float32[2, 6]"), 8, name="first"), axis=1), 4)


def averaged_over_channels(b: Builder) -> Value:
    return b.relu(b.reduce_mean(conv(b, image(b), 8, name="first"), axes=(1,), keepdims=True))


def joined_with_the_input(b: Builder) -> Value:
    return b.reduce_sum(b.add(conv(b, image(b, 8), 8, name="first"), b.graph.inputs[0]), axes=(2, 3))


def strided(b: Builder) -> Value:
    x = conv(b, image(b), 8, name="first")
    return conv(b, b.slice(x, starts=(0, 0, 0, 0), sizes=(2, 4, 5, 5), steps=(1, 2, 1, 1)), 4)


def recurrent(b: Builder) -> Value:
    x = b.matmul(b.input("x", "float32[3, 2, 6]"), weight(6, 8), name="first")
    return b.node(
        "lstm", x, weight(1, 12, 8), weight(1, 12, 3), hidden_size=3, activations=("sigmoid", "tanh", "tanh")
    ).outputs[0]


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (layer_normalized, "statistics"),
        (softmaxed, "softmax mixes"),
        (averaged_over_channels, "reduce_mean mixes"),
        (joined_with_the_input, "input of the graph"),
        (strided, "with a step"),
        (recurrent, "lstm does not keep channels apart"),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_channels_that_must_stay_say_why(network: Callable[[Builder], Value], reason: str) -> None:
    graph = build(network)
    before = str(graph)
    with pytest.raises(EdgeIRError, match=reason):
        prune(graph, ratio=0.5, layers=("first",))
    assert str(graph) == before


def test_fused_graphs_are_refused() -> None:
    from edgeir.passmanager import PassContext, Pipeline

    graph = build(residual)
    Pipeline("fuse-operators").run(graph, PassContext())
    with pytest.raises(EdgeIRError, match="prune before"):
        prune(graph)
