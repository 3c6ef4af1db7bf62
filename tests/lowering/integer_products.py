"""Integer matrix products to test with."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgeir.ir import Graph, TensorType, Value
from tests.lowering.integer_networks import integer_weight

BASE: dict[str, Any] = {
    "batch": (),
    "shape": (9, 32, 45),
    "dtype": "uint8",
    "zero": 131,
    "weights": "extreme",
    "transposed": False,
    "epilogue": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "rows": {},
    "one_row": {"shape": (1, 64, 96)},
    "ragged_depth": {"shape": (7, 37, 24), "transposed": True},
    "batch": {"batch": (2, 3), "shape": (5, 16, 40), "epilogue": False},
    "runtime_zero": {"zero": "runtime", "shape": (6, 20, 33)},
    "narrow": {"shape": (3, 5, 2), "zero": 255},
}


@st.composite
def products(draw: st.DrawFn) -> dict[str, Any]:
    """Products of up to 20 rows, 70 terms and 80 columns, any zero point."""
    unsigned = draw(st.booleans())
    low = 0 if unsigned else -128
    return {
        "batch": draw(st.sampled_from([(), (), (2,), (1, 3)])),
        "shape": (draw(st.integers(1, 20)), draw(st.integers(1, 70)), draw(st.integers(2, 80))),
        "dtype": "uint8" if unsigned else "int8",
        "zero": draw(st.sampled_from([None, low, low + 255, low + 128, "runtime"])),
        "weights": draw(st.sampled_from(["extreme", "symmetric", "pairs"])),
        "transposed": draw(st.booleans()),
        "epilogue": draw(st.booleans()),
    }


def product_network(numbers: dict[str, Any], seed: int = 0) -> tuple[Graph, dict[str, np.ndarray]]:
    """A product with a constant right operand; the epilogue scales each column and ends in 8 bits."""
    random = np.random.default_rng(seed)
    m, k, n = numbers["shape"]
    dtype, low = numbers["dtype"], np.iinfo(numbers["dtype"]).min
    extremes = np.array([low, low + 255, low + 255, low + 1, low + 100], dtype)
    graph = Graph("net")
    shape = (*numbers["batch"], m, k)
    a = graph.add_input("a", TensorType(dtype, shape))
    inputs = {"a": random.choice(extremes, shape)}
    weight = integer_weight(random, (n, k) if numbers["transposed"] else (k, n), numbers["weights"])
    zero: Value | None = None
    if numbers["zero"] == "runtime":
        zero = graph.add_input("zero", TensorType(dtype, ()))
        inputs["zero"] = np.array(low + 77, dtype)
    elif numbers["zero"] is not None:
        zero = graph.add_constant(np.array(numbers["zero"], dtype), "zero")
    flags = {"transpose_a": False, "transpose_b": numbers["transposed"]}
    y = graph.add_node("matmul_integer", [a, graph.add_constant(weight, "w"), zero, None], flags).output
    if numbers["epilogue"]:
        scale = graph.add_constant(random.uniform(1e-4, 1e-3, (n,)).astype(np.float32), "scale")
        y = graph.add_node("dequantize", [y, scale, None]).output
        one, middle = graph.add_constant(np.float32(1), "one"), graph.add_constant(np.uint8(128), "middle")
        y = graph.add_node("quantize", [y, one, middle], {"dtype": "uint8"}).output
    graph.set_outputs([("y", y)])
    return graph, inputs
