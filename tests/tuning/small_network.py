"""A network of a few convolutions, two of them alike."""

from __future__ import annotations

import numpy as np

import edgeir.ops  # noqa: F401
from edgeir.ir import Builder, Graph


def small_network(size: int = 14, channels: int = 32) -> Graph:
    """A 3x3 convolution, two equal 1x1 convolutions with relu, a depthwise one, and a matmul."""
    generator = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    builder = Builder("small")
    x = builder.input("x", f"float32[1, 3, {size}, {size}]")
    zeros = {"strides": (1, 1), "dilations": (1, 1)}
    y = builder.conv(x, weight(channels, 3, 3, 3), padding=(1, 1, 1, 1), groups=1, **zeros)
    y = builder.relu(y)
    for _ in range(2):
        y = builder.relu(builder.conv(y, weight(channels, channels, 1, 1), padding=(0, 0, 0, 0), groups=1, **zeros))
    y = builder.relu(builder.conv(y, weight(channels, 1, 3, 3), padding=(1, 1, 1, 1), groups=channels, **zeros))
    y = builder.reshape(builder.reduce_mean(y, axes=(2, 3), keepdims=True), shape=(1, channels))
    return builder.outputs(y=builder.matmul(y, weight(channels, 10)))
