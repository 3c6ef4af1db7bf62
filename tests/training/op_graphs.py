"""Graphs of cases of one operator, and their results in torch and by the reference evaluator."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.dtype import dtype_name
from edgeir.training.tensor_conversion import to_array, to_tensor
from tests.lowering.op_case import OpCase, array, random


def case_graph(cases: Sequence[OpCase], floats_are_inputs: bool = False) -> tuple[Graph, dict[str, np.ndarray]]:
    """All cases in one graph, with seeded inputs; results are named after the case's number."""
    graph = Graph(cases[0].op)
    inputs: dict[str, np.ndarray] = {}
    outputs: list[tuple[str, Value]] = []
    for number, case in enumerate(cases):
        rng = np.random.default_rng(zlib.crc32(str(case).encode()))
        operands: list[Value | None] = []
        for index, make in enumerate(case.inputs):
            if make is None:
                operands.append(None)
                continue
            data, name = make(rng), f"x{number}_{index}"
            if index in case.constants and not (floats_are_inputs and data.dtype.kind == "f"):
                operands.append(graph.add_constant(data, name))
            else:
                operands.append(graph.add_input(name, TensorType(dtype_name(data.dtype), data.shape)))
                inputs[name] = data
        layouts = [case.attributes["layout"]] if case.op == "layout_cast" else None
        node = graph.add_node(case.op, operands, case.attributes, output_layouts=layouts)
        outputs += [(f"{number} {case} result {i}", value) for i, value in enumerate(node.outputs)]
    graph.set_outputs(outputs)
    return graph, inputs


def tensors(inputs: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The arrays as tensors."""
    return {name: to_tensor(data) for name, data in inputs.items()}


def arrays(outputs: dict[str, Tensor], graph: Graph) -> dict[str, np.ndarray]:
    """A module's outputs as arrays of the graph's element types."""
    types = dict(zip(graph.output_names, (value.type for value in graph.outputs), strict=True))
    return {name: to_array(tensor, types[name].dtype) for name, tensor in outputs.items()}


def assert_close(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Equal dtype and shape; equal elements, or floats within `tolerance` times the largest finite magnitude."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(got, expected)
        return
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, finite.max(initial=0.0)))


def recurrent_cases(small: bool = False) -> Iterator[OpCase]:
    """Recurrent layers: directions, sequence lengths, initial states, peepholes, clipping, other activations."""
    steps, batch, size, hidden = (2, 2, 2, 2) if small else (5, 3, 4, 6)
    standard = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}
    other = {
        "lstm": ("hardsigmoid", "softsign", "elu"),
        "gru": ("affine", "scaledtanh"),
        "rnn": ("leakyrelu",),
    }
    gate_count = {"lstm": 4, "gru": 3, "rnn": 1}
    for op, gates in gate_count.items():
        for direction, activations, full in (
            ("forward", standard[op], False),
            ("reverse", standard[op], True),
            ("bidirectional", standard[op] * 2, True),
            ("forward", other[op], True),
        ):
            d, rows = (2 if direction == "bidirectional" else 1), gates * hidden
            inputs = [random((steps, batch, size)), random((d, rows, size), "float32", -1, 1)]
            inputs += [random((d, rows, hidden), "float32", -1, 1), random((d, 2 * rows), "float32", -1, 1)]
            attributes: dict[str, object] = {
                "hidden_size": hidden,
                "direction": direction,
                "activations": activations,
            }
            if full:
                lengths = [steps, 1, 2][:batch]
                inputs += [array(lengths, "int32"), random((d, batch, hidden), "float32", -1, 1)]
            if full and op == "lstm":
                inputs += [random((d, batch, hidden)), random((d, 3 * hidden))]
                attributes["input_forget"] = direction == "reverse"
            if full and op == "gru":
                attributes["linear_before_reset"] = direction != "bidirectional"
            if full and direction == "bidirectional":
                attributes["clip"] = 1.25
            yield OpCase(op, inputs, attributes, 1e-5, label=f"{direction}-{activations[0]}")


def quantization_cases() -> Iterator[OpCase]:
    """Logarithmic quantization, tables and integer arithmetic."""
    edges = array([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, 1.0, -1.5, 0.7, np.inf, -np.inf, np.nan])
    for bits in range(3, 9):
        codes = "uint4" if bits == 4 else "uint8"
        scale = random((3, 1), "float32", 0.1, 2)
        yield OpCase("log_quantize", [random((3, 50)), scale], {"bits": bits}, label=str(bits))
        yield OpCase("log_quantize", [edges, array(0.9)], {"bits": bits}, label=f"edges-{bits}")
        yield OpCase("log_dequantize", [random((3, 50), codes, 0, 2**bits - 1), scale], {"bits": bits}, label=str(bits))
    for dtype in ("int8", "uint8", "int4", "uint4"):
        count = 256 if dtype.endswith("8") else 16
        low, high = (0, count - 1) if dtype.startswith("u") else (-count // 2, count // 2 - 1)
        yield OpCase("lookup", [random((5, 9), dtype, low, high), random((count,))], label=dtype)
        for x in ("int8", "uint8"):
            left, zero = random((2, 4, 6, 5), x, -128, 127), array(3, x)
            window = {"strides": (2, 1), "padding": (1, 0, 0, 2), "dilations": (1, 1), "groups": 2}
            weights, zeros = random((6, 2, 3, 2), dtype, low, high), random((6,), dtype, 0, 5)
            yield OpCase(
                "conv_integer",
                [left, weights, random((6,), "int32", -99, 99), zero, zeros],
                window,
                label=f"{x}-{dtype}",
            )
            yield OpCase(
                "matmul_integer",
                [random((2, 5, 7), x, -128, 127), random((3, 7), dtype, low, high), zero, random((3,), dtype, 0, 5)],
                {"transpose_b": True},
                label=f"{x}-{dtype}",
            )
