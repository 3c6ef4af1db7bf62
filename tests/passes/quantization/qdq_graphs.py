"""Small fake-quantized networks: every operator between a dequantization and a quantization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgeir.ir import Builder, Graph, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.ops.operands import integer_range

Draw = Callable[[st.SearchStrategy[Any]], Any]
F = np.float32


@dataclass
class Network:
    """A network on its way: the last real number, and what came before it.

    Attributes:
        builder: makes nodes.
        inputs: input name → array; scales are fitted to what these give.
        dtype: of quantized activations.
        rng: of weights.
        values: dequantized values, the last one last.
    """

    builder: Builder
    inputs: dict[str, np.ndarray]
    dtype: str
    rng: np.random.Generator
    values: list[Value] = field(default_factory=list)

    def range_of(self, value: Value) -> tuple[float, float]:
        """Least and greatest element, 0 included."""
        graph = self.builder.graph
        graph.set_outputs({"y": value})
        array = evaluate(graph, self.inputs)["y"]
        return min(float(array.min()), 0.0), max(float(array.max()), 1e-3)

    def quantize(self, value: Value) -> Value:
        """The value in 256 steps over its range."""
        low, high = self.range_of(value)
        least, greatest = integer_range(self.dtype)
        scale = F((high - low) / 255)
        zero = np.array(np.clip(round(least - low / scale), least, greatest)).astype(numpy_dtype(self.dtype))
        return self.builder.quantize(value, scale, zero)

    def requantize(self, value: Value) -> Value:
        """dequantize(quantize(value)), appended to `values`."""
        q = self.quantize(value)
        node = q.producer
        assert node is not None
        self.values.append(self.builder.dequantize(q, node.input(1), node.input(2)))
        return self.values[-1]

    def weights(self, shape: tuple[int, ...], channels: tuple[int, ...], zero: int | None) -> Value:
        """Dequantized random weights with scales (and zero points, all the same) of shape `channels`."""
        scale = self.rng.uniform(0.005, 0.02, channels).astype(F)
        if zero is None:
            return self.builder.dequantize(self.rng.integers(-127, 128, shape).astype(np.int8), scale)
        w = self.rng.integers(0, 256, shape).astype(np.uint8)
        return self.builder.dequantize(w, scale, np.full(channels, zero, np.uint8))


ZEROS = st.sampled_from([None, None, 128, 90])
"""Zero points of weights; with 128 they fit int8 once it is subtracted, with 90 they do not."""


def _conv(draw: Draw, n: Network, x: Value) -> Value:
    channels = x.type.static_shape[1]
    groups = draw(st.sampled_from([1, 1, channels, 2 if channels % 2 == 0 else 1]))
    out, kernel = groups * draw(st.integers(1, 5)), draw(st.sampled_from([1, 3]))
    per_channel = draw(st.booleans())
    scales = (out, 1, 1, 1) if per_channel else ()
    w = n.weights((out, channels // groups, kernel, kernel), scales, draw(ZEROS))
    bias: Any = draw(st.sampled_from([None, "float", "int32"]))
    if bias == "float":
        bias = n.rng.standard_normal(out).astype(F)
    elif bias == "int32":
        assert x.producer is not None and w.producer is not None
        steps = (x.producer.input(1).data * w.producer.input(1).data).reshape(-1)
        bias = n.builder.dequantize(n.rng.integers(-900, 900, out).astype(np.int32), steps if per_channel else steps[0])
    pad, stride = draw(st.integers(0, kernel // 2)), draw(st.integers(1, 2))
    return n.builder.conv(x, w, bias, strides=(stride, stride), padding=(pad,) * 4, dilations=(1, 1), groups=groups)


def _matmul(draw: Draw, n: Network, x: Value) -> Value:
    depth, columns, flag = x.type.static_shape[-1], draw(st.integers(1, 6)), draw(st.booleans())
    shape = (columns, depth) if flag else (depth, columns)
    scales = draw(st.sampled_from([(), (columns, 1) if flag else (columns,)]))
    y = n.builder.matmul(x, n.weights(shape, scales, draw(ZEROS)), transpose_b=flag)
    return n.builder.add(y, n.rng.standard_normal(columns).astype(F)) if draw(st.booleans()) else y


def _binary(draw: Draw, n: Network, x: Value) -> Value:
    others = [value for value in n.values if value.type == x.type]
    return n.builder.node(draw(st.sampled_from(["add", "mul", "sub"])), x, draw(st.sampled_from(others))).output


def _concat(draw: Draw, n: Network, x: Value) -> Value:
    others = [value for value in n.values if value.type == x.type]
    return n.builder.concat(x, draw(st.sampled_from(others)), axis=draw(st.integers(0, 3)))


def _pool(draw: Draw, n: Network, x: Value) -> Value:
    name = draw(st.sampled_from(["max_pool", "average_pool"]))
    more = {"count_include_pad": draw(st.booleans())} if name == "average_pool" else {}
    pad = draw(st.integers(0, 1))
    window = {"kernel": (2, 2), "strides": (1, 1), "padding": (pad, pad, 0, 0), "dilations": (1, 1)}
    return n.builder.node(name, x, **window, **more).output


def _move(draw: Draw, n: Network, x: Value) -> Value:
    b, (batch, channels, height, width) = n.builder, x.type.static_shape
    moves: list[Callable[[], Value]] = [
        lambda: b.reshape(x, shape=(batch, height, channels, width)),
        lambda: b.transpose(x, perm=(0, 2, 3, 1)),
        lambda: b.slice(x, starts=(0, 0, 1, 0), sizes=(batch, channels, height - 1, width), steps=(1, 1, 1, 1)),
        lambda: b.pad(x, padding=(0, 0, 1, 1, 0, 0, 0, 1)),
        lambda: b.resize(
            x,
            sizes=(batch, channels, 2 * height, 2 * width),
            scales=(1.0, 1.0, 2.0, 2.0),
            mode="nearest",
            coordinate_transformation="asymmetric",
            nearest_mode="floor",
        ),
    ]
    return draw(st.sampled_from(moves))()


def _function(draw: Draw, n: Network, x: Value) -> Value:
    b = n.builder
    functions: list[Callable[[], Value]] = [
        lambda: b.relu(x),
        lambda: b.clip(x, minimum=0.0, maximum=0.75),
        lambda: b.leaky_relu(x, alpha=0.125),
        lambda: b.sigmoid(x),
        lambda: b.tanh(x),
        lambda: b.mul(x, b.sigmoid(x)),
        lambda: b.mul(x, b.clip(b.add(b.mul(x, F(1 / 6)), F(0.5)), minimum=0.0, maximum=1.0)),
        lambda: b.mul(b.neg(x), F(-0.5)),
        lambda: b.reduce_mean(x, axes=(2, 3), keepdims=True),
    ]
    return draw(st.sampled_from(functions))()


_STEPS = (_conv, _conv, _matmul, _binary, _concat, _pool, _move, _function, _function)
LARGEST = 4000


@st.composite
def qdq_graphs(draw: Draw, stages: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A network of `stages` quantized operators and an input; some operators are followed by a relu or a clip."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shape = (1, draw(st.integers(1, 6)), draw(st.integers(3, 7)), draw(st.integers(3, 7)))
    builder = Builder("qdq")
    x = builder.input("x", f"float32[{', '.join(map(str, shape))}]")
    inputs = {"x": rng.uniform(-1, 1.5, shape).astype(F)}
    n = Network(builder, inputs, draw(st.sampled_from(["int8", "uint8"])), rng)
    value = n.requantize(x)
    q = value
    for stage in range(stages):
        small = np.prod(value.type.static_shape) > LARGEST or min(value.type.static_shape[2:]) < 3
        step = _function if small else draw(st.sampled_from(_STEPS))
        y = step(draw, n, value)
        if draw(st.booleans()):
            y = builder.relu(y) if draw(st.booleans()) else builder.clip(y, minimum=-0.5, maximum=1.0)
        if stage == stages - 1:
            q = n.quantize(y)
        else:
            value = n.requantize(y)
    graph = builder.outputs(q=q)
    graph.remove_unused_constants()
    graph.verify()
    return graph, inputs
