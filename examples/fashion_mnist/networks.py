"""Two small image classifiers as graphs with initial weights: one like MobileNetV2, one residual."""

from __future__ import annotations

import numpy as np

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Builder, Graph, Value


class _Layers:
    """Layers with weights from one generator. Batch norms start as the identity; training fills their statistics."""

    def __init__(self, name: str, seed: int) -> None:
        self.builder = Builder(name)
        self.rng = np.random.default_rng(seed)

    def conv(self, x: Value, channels: int, kernel: int, stride: int = 1, groups: int = 1, name: str = "") -> Value:
        """Convolution without bias; weights from N(0, 2 / fan-out) (He et al. 2015)."""
        inputs = x.type.static_shape[1] if x.type.is_static else int(str(x.type.shape[1]))
        scale = np.sqrt(2 * groups / (kernel * kernel * channels))
        weight = self.rng.normal(0, scale, (channels, inputs // groups, kernel, kernel)).astype(np.float32)
        return self.builder.conv(
            *(x, self.builder.constant(weight, f"{name}.weight")),
            strides=(stride, stride),
            padding=(kernel // 2,) * 4,
            dilations=(1, 1),
            groups=groups,
            name=name,
        )

    def norm(self, x: Value, channels: int, name: str, gain: float = 1.0) -> Value:
        """Batch norm; `gain` is the initial scale."""
        b = self.builder
        scale = b.constant(np.full(channels, gain, np.float32), f"{name}.scale")
        bias = b.constant(np.zeros(channels, np.float32), f"{name}.bias")
        mean = b.constant(np.zeros(channels, np.float32), f"{name}.mean")
        variance = b.constant(np.ones(channels, np.float32), f"{name}.variance")
        return b.batch_norm(x, scale, bias, mean, variance, epsilon=1e-5, name=name)

    def block(self, x: Value, channels: int, kernel: int, stride: int, groups: int, name: str) -> Value:
        """Convolution, batch norm, and ReLU (where MobileNetV2 clips at 6, which trains slower)."""
        y = self.norm(self.conv(x, channels, kernel, stride, groups, name), channels, f"{name}.norm")
        return self.builder.relu(y, name=f"{name}.act")

    def classify(self, x: Value, features: int, classes: int) -> Graph:
        """Mean over the image, and a linear layer to logits."""
        b = self.builder
        pooled = b.reduce_mean(x, axes=(2, 3), keepdims=False, name="pooled")
        weight = self.rng.normal(0, 0.01, (features, classes)).astype(np.float32)
        product = b.matmul(pooled, b.constant(weight, "classifier.weight"), name="classifier")
        return b.outputs(logits=b.add(product, b.constant(np.zeros(classes, np.float32), "classifier.bias")))


MOBILE_STAGES = ((24, 2, 2, 2), (48, 4, 2, 3), (96, 4, 2, 2))
"""Channels, expansion, stride of the first block, blocks."""


def mobile_network(
    size: int = 28,
    classes: int = 10,
    *,
    stem: int = 16,
    stages: tuple[tuple[int, int, int, int], ...] = MOBILE_STAGES,
    head: int = 320,
    seed: int = 0,
) -> Graph:
    """A network of inverted residual blocks (MobileNetV2: Sandler et al. 2018) for grey images.

    Args:
        size: height and width of the images; the input is `image`: float32[N, 1, size, size], the output `logits`.
        classes: number of classes.
        stem: channels of the first convolution, which keeps the resolution.
        stages: channels, expansion, stride and number of the blocks of each stage.
        head: channels before the mean over the image.
        seed: of the initial weights.
    """
    layers = _Layers("mobile", seed)
    x = layers.block(layers.builder.input("image", f"float32[N, 1, {size}, {size}]"), stem, 3, 1, 1, "stem")
    channels = stem
    for stage, (wanted, expansion, stride, count) in enumerate(stages):
        for index in range(count):
            name, step = f"stage{stage}.{index}", stride if index == 0 else 1
            inner = channels * expansion
            y = layers.block(x, inner, 1, 1, 1, f"{name}.expand")
            y = layers.block(y, inner, 3, step, inner, f"{name}.depthwise")
            y = layers.norm(layers.conv(y, wanted, 1, name=f"{name}.project"), wanted, f"{name}.project.norm")
            x = layers.builder.add(x, y, name=name) if step == 1 and channels == wanted else y
            channels = wanted
    return layers.classify(layers.block(x, head, 1, 1, 1, "head"), head, classes)


def residual_network(
    size: int = 28, classes: int = 10, *, widths: tuple[int, ...] = (16, 32, 64), blocks: int = 1, seed: int = 0
) -> Graph:
    """A small residual network (He et al. 2016, the basic block) for grey images.

    Args:
        size: height and width of the images; the input is `image`: float32[N, 1, size, size], the output `logits`.
        classes: number of classes.
        widths: channels of the stages; each but the first halves the resolution.
        blocks: blocks in a stage.
        seed: of the initial weights.
    """
    layers = _Layers("residual", seed)
    b = layers.builder

    def conv_norm(x: Value, channels: int, kernel: int, stride: int, name: str) -> Value:
        return layers.norm(layers.conv(x, channels, kernel, stride, name=name), channels, f"{name}.norm")

    x = b.relu(conv_norm(b.input("image", f"float32[N, 1, {size}, {size}]"), widths[0], 3, 1, "stem"), name="stem.act")
    channels = widths[0]
    for stage, width in enumerate(widths):
        for index in range(blocks):
            name, stride = f"stage{stage}.{index}", 2 if stage and index == 0 else 1
            y = b.relu(conv_norm(x, width, 3, stride, f"{name}.first"), name=f"{name}.first.act")
            y = conv_norm(y, width, 3, 1, f"{name}.second")
            short = x if stride == 1 and channels == width else conv_norm(x, width, 1, stride, f"{name}.short")
            x = b.relu(b.add(y, short, name=f"{name}.sum"), name=name)
            channels = width
    return layers.classify(x, channels, classes)
