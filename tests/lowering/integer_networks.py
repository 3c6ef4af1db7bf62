"""Networks of one integer convolution or product, random in every respect that matters to a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.dtype import numpy_dtype

BASE: dict[str, Any] = {
    "kernel": (3, 3),
    "dilations": (1, 1),
    "padding": (1, 1, 1, 1),
    "strides": (1, 1),
    "groups": 1,
    "channels": (24, 40),
    "size": (9, 11),
    "batch": 1,
    "dtype": "uint8",
    "x_zero": 131,
    "bias": True,
    "weights": "extreme",
    "epilogue": "residual",
}
"""A convolution in a network with residual, as `conv_network` takes it."""

SHAPES: dict[str, dict[str, Any]] = {
    "padded": {},
    "pointwise": {"kernel": (1, 1), "padding": (0, 0, 0, 0)},
    "pointwise_stride": {"kernel": (1, 1), "padding": (0, 0, 0, 0), "strides": (2, 2)},
    "first": {"channels": (3, 32), "strides": (2, 2), "size": (20, 17)},
    "dilated": {"dilations": (2, 1), "padding": (2, 0, 1, 2), "strides": (1, 3)},
    "groups": {"channels": (32, 64), "groups": 2, "bias": False},
    "ragged": {"channels": (5, 7), "batch": 2, "epilogue": "none"},
}
"""What differs from `BASE`, by name."""


@st.composite
def integer_convolutions(draw: st.DrawFn, dtypes: Sequence[str] = ("uint8", "int8")) -> dict[str, Any]:
    """Shapes, attributes and extremes of a convolution: channels 1 to 70, sizes 1 to 20, any zero point."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padding = draw(st.tuples(*(st.integers(0, reach[axis % 2] - 1) for axis in range(4))))
    smallest = [max(1, r - padding[a] - padding[a + 2]) for a, r in enumerate(reach)]
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    whole = groups > 1 and draw(st.booleans())
    counts = st.sampled_from([4, 8, 16, 32]) if whole else st.integers(1, 70 // groups)
    dtype = draw(st.sampled_from(dtypes))
    low = int(np.iinfo(dtype).min)
    return {
        "kernel": kernel,
        "dilations": dilations,
        "padding": padding,
        "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "groups": groups,
        "channels": (draw(counts) * groups, draw(counts) * groups),
        "size": tuple(draw(st.integers(least, max(least, 20))) for least in smallest),
        "batch": draw(st.sampled_from([1, 1, 2])),
        "dtype": dtype,
        "x_zero": draw(st.sampled_from([None, low, low + 255, low + 128, low + 7])),
        "bias": draw(st.booleans()),
        "weights": draw(st.sampled_from(["extreme", "symmetric", "pairs", "int4", "codes"])),
        "epilogue": draw(st.sampled_from(["none", "quantize", "residual"])),
    }


def integer_weight(random: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """int8 weights: `extreme` (mostly −128 and 127), `symmetric` (no −128) or `pairs` (|w0| + |w1| ≤ 128)."""
    if kind == "extreme":
        return random.choice(np.array([-128, 127, 127, -128, 3], np.int8), shape)
    bound = 127 if kind == "symmetric" else 64
    return random.integers(-bound, bound + 1, shape).astype(np.int8)


def weight_value(graph: Graph, random: np.random.Generator, shape: tuple[int, ...], kind: str) -> Value:
    """A weight: bytes (see `integer_weight`), `int4` numbers, or `codes` of powers of two in 4 bits."""
    if kind == "int4":
        return graph.add_constant(random.integers(-8, 8, shape).astype(np.int8).astype(numpy_dtype("int4")), "w")
    if kind != "codes":
        return graph.add_constant(integer_weight(random, shape, kind), "w")
    codes = random.integers(0, 16, shape).astype(np.uint8).astype(numpy_dtype("uint4"))
    powers = np.array([0, 1, 2, 4, 8, 16, 32, 64], np.int8)
    table = graph.add_constant(np.concatenate([powers, -powers]), "table")
    return graph.add_node("lookup", [graph.add_constant(codes, "w"), table], {}).output


def conv_network(numbers: dict[str, Any], seed: int, block: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """The network with activations in `NCHW{block}c` (plain where 0), casts outside, and its inputs.

    The epilogue `quantize` ends in 8 bits by way of a dequantization per channel; `residual` adds 8-bit numbers first.
    """
    random = np.random.default_rng(seed)
    inner, outer = numbers["channels"]
    dtype, groups, batch = numbers["dtype"], numbers["groups"], numbers["batch"]
    graph = Graph("net")
    shape = (batch, inner, *numbers["size"])
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    data = random.choice(np.array([low, high, high, low + 1, high // 2], dtype), shape)
    x: Value = graph.add_input("x", TensorType(dtype, shape))
    inputs = {"x": data}
    weight = weight_value(graph, random, (outer, inner // groups, *numbers["kernel"]), numbers["weights"])
    layout = f"NCHW{block}c" if block else ""

    def cast(value: Value, to: str) -> Value:
        if not block:
            return value
        return graph.add_node("layout_cast", [value], {"layout": to}, output_layouts=[to]).output

    zero, bias = numbers["x_zero"], None
    if numbers["bias"]:
        bias = graph.add_constant(random.integers(-(10**6), 10**6, outer).astype(np.int32), "b")
    operands = [
        cast(x, layout),
        weight,
        bias,
        None if zero is None else graph.add_constant(np.array(zero, dtype), "z"),
    ]
    attributes = {key: numbers[key] for key in ("strides", "dilations", "padding", "groups")}
    y = graph.add_node("conv_integer", operands, attributes, output_layouts=[layout] if block else None).output
    if numbers["epilogue"] != "none":
        scales = random.uniform(1e-3, 3e-3, (1, outer, 1, 1)).astype(np.float32)
        scale = graph.add_constant(scales, "s", layout)
        keep = [layout] if block else None
        y = graph.add_node("dequantize", [y, scale, None], {}, output_layouts=keep).output
        if numbers["epilogue"] == "residual":
            r = graph.add_input("r", TensorType("uint8", y.type.static_shape))
            inputs["r"] = random.integers(0, 256, r.type.static_shape).astype(np.uint8)
            step, middle = graph.add_constant(np.float32(0.25), "rs"), graph.add_constant(np.uint8(100), "rz")
            wide = graph.add_node("dequantize", [cast(r, layout), step, middle], {}, output_layouts=keep).output
            y = graph.add_node("add", [y, wide], {}, output_layouts=keep).output
        one, middle = graph.add_constant(np.float32(1), "one"), graph.add_constant(np.uint8(128), "qz")
        y = graph.add_node("quantize", [y, one, middle], {"dtype": "uint8"}, output_layouts=keep).output
    graph.set_outputs([("y", cast(y, ""))])
    return graph, inputs
