"""Integer products of two computed operands to test with."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgeir.ir import Graph, TensorType, Value

BASE: dict[str, Any] = {
    "batch": ((), ()),
    "shape": (9, 32, 48),
    "dtypes": ("uint8", "uint8"),
    "zeros": (131, 120),
    "transposed": (False, False),
    "epilogue": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "transposed": {"transposed": (False, True)},
    "left_transposed": {"transposed": (True, False), "batch": ((2, 3), (2, 3))},
    "attention": {"batch": ((1, 2), (1, 2)), "shape": (17, 64, 17), "transposed": (False, True)},
    "values": {"batch": ((1, 2), (1, 2)), "shape": (17, 17, 64), "zeros": (None, 128)},
    "shared": {"batch": ((2, 3), ()), "shape": (5, 16, 40), "epilogue": False},
    "broadcast": {"batch": ((3,), (2, 1)), "shape": (4, 7, 5), "epilogue": False},
    "one_row": {"shape": (1, 37, 33)},
    "signed": {"dtypes": ("int8", "int8"), "zeros": (-7, None)},
    "runtime": {"zeros": ("runtime", "runtime")},
    "right_runtime": {"zeros": (None, "runtime"), "dtypes": ("int8", "uint8")},
}


@st.composite
def computed_products(draw: st.DrawFn) -> dict[str, Any]:
    """Products of up to 20 rows, 70 terms and 80 columns, any dtypes and zero points."""
    dtypes = draw(st.tuples(*[st.sampled_from(["uint8", "int8"])] * 2))
    zeros = []
    for dtype in dtypes:
        low = int(np.iinfo(dtype).min)
        zeros.append(draw(st.sampled_from([None, low, low + 255, low + 128, low + 7, "runtime"])))
    return {
        "batch": draw(st.sampled_from([((), ()), ((2,), (2,)), ((1, 3), (1, 3)), ((2, 2), ()), ((2,), (3, 1))])),
        "shape": (draw(st.integers(1, 20)), draw(st.integers(1, 70)), draw(st.integers(1, 80))),
        "dtypes": dtypes,
        "zeros": tuple(zeros),
        "transposed": draw(st.tuples(st.booleans(), st.booleans())),
        "epilogue": draw(st.booleans()),
    }


def computed_product(numbers: dict[str, Any], seed: int = 0) -> tuple[Graph, dict[str, np.ndarray]]:
    """A product of two inputs; the epilogue scales and ends in 8 bits."""
    random = np.random.default_rng(seed)
    m, k, n = numbers["shape"]
    graph = Graph("net")
    inputs: dict[str, np.ndarray] = {}
    operands: list[Value] = []
    zeros: list[Value | None] = []
    for index, (name, pair) in enumerate((("a", (m, k)), ("b", (k, n)))):
        dtype, zero = numbers["dtypes"][index], numbers["zeros"][index]
        shape = (*numbers["batch"][index], *(pair[::-1] if numbers["transposed"][index] else pair))
        low = int(np.iinfo(dtype).min)
        extremes = np.array([low, low + 255, low + 255, low + 1, low + 100], dtype)
        inputs[name] = random.choice(extremes, shape)
        operands.append(graph.add_input(name, TensorType(dtype, shape)))
        if zero == "runtime":
            inputs[f"{name}_zero"] = np.array(low + 77, dtype)
            zeros.append(graph.add_input(f"{name}_zero", TensorType(dtype, ())))
        else:
            zeros.append(None if zero is None else graph.add_constant(np.array(zero, dtype), f"{name}_zero"))
    transpose_a, transpose_b = numbers["transposed"]
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    y = graph.add_node("matmul_integer", [*operands, *zeros], flags).output
    if numbers["epilogue"]:
        scale, one = graph.add_constant(np.float32(0.00173), "s"), graph.add_constant(np.float32(1), "one")
        y = graph.add_node("dequantize", [y, scale]).output
        y = graph.add_node("quantize", [y, one, graph.add_constant(np.uint8(128), "middle")]).output
    graph.set_outputs([("y", y)])
    return graph, inputs
