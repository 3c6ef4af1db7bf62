"""Random graphs and random shapes in torch against the reference evaluator (hypothesis)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

from edgeir.errors import EdgeIRError  # noqa: E402
from edgeir.ir import Graph  # noqa: E402
from edgeir.ir.evaluate import evaluate  # noqa: E402
from edgeir.training import GraphModule  # noqa: E402
from tests.lowering.op_case import OpCase, array, random  # noqa: E402
from tests.strategies import assert_outputs_close, graphs, random_inputs  # noqa: E402
from tests.training.op_graphs import arrays, assert_close, case_graph, tensors  # noqa: E402

Draw = Callable[[st.SearchStrategy[Any]], Any]


@settings(max_examples=120)
@given(graphs())
def test_random_graphs_compute_what_the_reference_computes(graph: Graph) -> None:
    inputs = random_inputs(graph)
    module = GraphModule(graph).eval()
    assert_outputs_close(arrays(module(tensors(inputs)), graph), evaluate(graph, inputs))
    assert str(module.to_graph()) == str(graph)


def _sizes(draw: Draw, rank: int, least: int = 1, most: int = 6) -> tuple[int, ...]:
    return tuple(draw(st.integers(least, most)) for _ in range(rank))


def _window(draw: Draw, rank: int) -> dict[str, Any]:
    return {
        "strides": _sizes(draw, rank, 1, 3),
        "padding": _sizes(draw, 2 * rank, 0, 2),
        "dilations": _sizes(draw, rank, 1, 2),
    }


def _convolution(draw: Draw) -> OpCase:
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    depth, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, attributes = _sizes(draw, rank, 1, 3), {**_window(draw, rank), "groups": groups}
    x = random((draw(st.integers(1, 2)), groups * depth, *_sizes(draw, rank)))
    bias = [random((groups * width,))] if draw(st.booleans()) else []
    if draw(st.booleans()):
        return OpCase("conv", [x, random((groups * width, depth, *kernel)), *bias], attributes)
    attributes["output_padding"] = _sizes(draw, rank, 0, 2)
    return OpCase("conv_transpose", [x, random((groups * depth, width, *kernel)), *bias], attributes)


def _pool(draw: Draw) -> OpCase:
    rank = draw(st.integers(1, 3))
    attributes = {**_window(draw, rank), "kernel": _sizes(draw, rank, 1, 3), "ceil_mode": draw(st.booleans())}
    op = draw(st.sampled_from(["max_pool", "average_pool"]))
    if op == "average_pool":
        attributes["count_include_pad"] = draw(st.booleans())
    return OpCase(op, [random((*_sizes(draw, 2, 1, 2), *_sizes(draw, rank)))], attributes)


def _resize(draw: Draw) -> OpCase:
    rank = draw(st.integers(1, 4))
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    attributes = {
        "sizes": _sizes(draw, rank),
        "mode": mode,
        "coordinate_transformation": draw(st.sampled_from(["half_pixel", "align_corners", "asymmetric"])),
        "antialias": mode != "nearest" and draw(st.booleans()),
        "exclude_outside": mode != "nearest" and draw(st.booleans()),
    }
    return OpCase("resize", [random(_sizes(draw, rank))], attributes)


def _grid_sample(draw: Draw) -> OpCase:
    rank, batch = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    attributes = {
        # Nearest rounds positions, which float32 may put on either side of a half.
        "mode": draw(st.sampled_from(["linear", "cubic"] if rank < 3 else ["linear"])),
        "padding_mode": draw(st.sampled_from(["zeros", "border", "reflection"])),
        "align_corners": draw(st.booleans()),
    }
    grid = random((batch, *_sizes(draw, rank), rank), "float32", -1.5, 1.5)
    return OpCase("grid_sample", [random((batch, 2, *_sizes(draw, rank, 2))), grid], attributes)


def _normalization(draw: Draw) -> OpCase:
    shape = _sizes(draw, draw(st.integers(2, 4)), 2)
    axis = draw(st.integers(0, len(shape) - 1))
    match draw(st.integers(0, 2)):
        case 0:
            statistics = [random((shape[1],)) for _ in range(3)]
            variance = random((shape[1],), "float32", 0.5, 2)
            return OpCase("batch_norm", [random(shape), *statistics, variance], {"epsilon": 1e-5})
        case 1:
            affine = [random(shape[draw(st.integers(axis, len(shape) - 1)) :]) for _ in range(draw(st.integers(1, 2)))]
            return OpCase("layer_norm", [random(shape), *affine], {"axis": axis, "epsilon": 1e-3})
    return OpCase(draw(st.sampled_from(["softmax", "log_softmax"])), [random(shape)], {"axis": axis})


def _indexing(draw: Draw) -> OpCase:
    shape = _sizes(draw, draw(st.integers(1, 3)), 2)
    axis = draw(st.integers(0, len(shape) - 1))
    indices = random(_sizes(draw, draw(st.integers(0, 2))), "int64", -shape[axis], shape[axis] - 1)
    depth = draw(st.integers(1, len(shape)))
    rows = draw(st.integers(1, 4))
    tuples = [random((rows, 1), "int32", -shape[i], shape[i] - 1) for i in range(depth)]
    points = lambda rng: np.concatenate([make(rng) for make in tuples], axis=1)  # noqa: E731
    match draw(st.integers(0, 3)):
        case 0:
            return OpCase("gather", [random(shape), indices], {"axis": axis})
        case 1:
            return OpCase("gather_nd", [random(shape), points])
        case 2:
            updates = random((rows, *shape[depth:]))
            reduction = draw(st.sampled_from(["add", "mul", "max", "min"]))
            return OpCase("scatter_nd", [random(shape), points, updates], {"reduction": reduction})
    k = draw(st.integers(0, shape[axis]))
    return OpCase("top_k", [random(shape)], {"k": k, "axis": axis, "largest": draw(st.booleans())})


def _product(draw: Draw) -> OpCase:
    batch, (m, k, n) = _sizes(draw, draw(st.integers(0, 2)), 1, 3), _sizes(draw, 3, 0, 5)
    a, b = draw(st.booleans()), draw(st.booleans())
    left, right = (*batch, *((k, m) if a else (m, k))), (n, k) if b else (k, n)
    if draw(st.booleans()):
        return OpCase("matmul", [random(left), random(right)], {"transpose_a": a, "transpose_b": b})
    equation = f"...{'km' if a else 'mk'},{'nk' if b else 'kn'}->...{'nm' if draw(st.booleans()) else 'mn'}"
    return OpCase("einsum", [random(left), random(right)], {"equation": equation})


_DOMAINS = {
    "asin": (-0.99, 0.99),
    "acos": (-0.99, 0.99),
    "atanh": (-0.99, 0.99),
    "acosh": (1.01, 4.0),
    "log": (0.1, 4.0),
    "sqrt": (0.1, 4.0),
    "reciprocal": (0.1, 4.0),
    "tan": (-1.2, 1.2),
    "div": (0.5, 4.0),
    "pow": (0.5, 2.0),
}
_UNARY = (
    *("abs", "neg", "sign", "relu", "exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh"),
    *("tanh", "asinh", "acosh", "atanh", "erf", "floor", "ceil", "round", "reciprocal", "sigmoid"),
)


def _elementwise(draw: Draw) -> OpCase:
    shape = _sizes(draw, draw(st.integers(0, 4)))
    partner = tuple(n if draw(st.booleans()) else 1 for n in shape)[draw(st.integers(0, len(shape))) :]
    op = draw(st.sampled_from([*_UNARY, "add", "sub", "mul", "div", "minimum", "maximum", "pow", "clip"]))
    low, high = _DOMAINS.get(op, (-4.0, 4.0))
    if op == "clip":
        bounds = {"minimum": draw(st.sampled_from([None, -1.0])), "maximum": draw(st.sampled_from([None, 2.5]))}
        return OpCase("clip", [random(shape)], bounds)
    operands = [random(shape, "float32", low, high)]
    return OpCase(op, operands if op in _UNARY else [*operands, random(partner, "float32", low, high)])


def _reduction(draw: Draw) -> OpCase:
    shape = _sizes(draw, draw(st.integers(1, 4)), 1, 4)
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    op = draw(st.sampled_from(["sum", "mean", "max", "min", "prod"]))
    attributes = {"axes": axes, "keepdims": draw(st.booleans())}
    return OpCase(f"reduce_{op}", [random(shape, "float32", -1.5, 1.5)], attributes)


def _quantization(draw: Draw) -> OpCase:
    shape = _sizes(draw, draw(st.integers(1, 4)))
    axis = draw(st.integers(0, len(shape) - 1))
    one = tuple(size if i == axis else 1 for i, size in enumerate(shape)) if draw(st.booleans()) else ()
    dtype = draw(st.sampled_from(["int8", "uint8", "int4", "uint4", "int16"]))
    scale = random(one, "float32", 0.01, 0.5)
    match draw(st.integers(0, 2)):
        case 0:
            return OpCase("quantize", [random(shape), scale, random(one, dtype, -7, 7)])
        case 1:
            return OpCase("dequantize", [random(shape, dtype, -8, 7), scale, random(one, dtype, -7, 7)])
    return OpCase("log_quantize", [random(shape), scale], {"bits": draw(st.integers(3, 8))})


def _scan(draw: Draw) -> OpCase:
    shape = _sizes(draw, draw(st.integers(1, 3)), 1, 5)
    flags = {"exclusive": draw(st.booleans()), "reverse": draw(st.booleans())}
    axis = draw(st.integers(0, len(shape) - 1))
    return OpCase(
        draw(st.sampled_from(["cum_sum", "cum_prod"])), [random(shape, "float32", -2, 2)], {"axis": axis, **flags}
    )


def _recurrent(draw: Draw) -> OpCase:
    (steps, batch, size, hidden), d = _sizes(draw, 4, 1, 4), draw(st.integers(1, 2))
    op, gates, functions = draw(
        st.sampled_from(
            [("lstm", 4, ["sigmoid", "tanh", "tanh"]), ("gru", 3, ["sigmoid", "tanh"]), ("rnn", 1, ["relu"])]
        )
    )
    lengths = array([draw(st.integers(0, steps)) for _ in range(batch)], "int32")
    attributes: Mapping[str, Any] = {
        "hidden_size": hidden,
        "direction": "bidirectional" if d == 2 else draw(st.sampled_from(["forward", "reverse"])),
        "activations": functions * d,
    }
    rows = gates * hidden
    weights = [random((d, rows, size)), random((d, rows, hidden), "float32", -1, 1)]
    bias: Sequence[Any] = [random((d, 2 * rows)) if draw(st.booleans()) else None]
    rest = [lengths] if draw(st.booleans()) else []
    return OpCase(op, [random((steps, batch, size)), *weights, *bias, *rest], attributes)


FAMILIES = {
    function.__name__.strip("_"): function
    for function in (
        _elementwise,
        _reduction,
        _quantization,
        _convolution,
        _pool,
        _resize,
        _grid_sample,
        _normalization,
        _indexing,
        _product,
        _scan,
        _recurrent,
    )
}


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40)
@given(data=st.data())
def test_random_shapes_compute_what_the_reference_computes(family: str, data: st.DataObject) -> None:
    """Within 1e-5 of the result's range (float32 sums in another order)."""
    case = FAMILIES[family](data.draw)
    try:
        graph, inputs = case_graph([case])
    except EdgeIRError:
        return  # the window does not fit
    got = arrays(GraphModule(graph).eval()(tensors(inputs)), graph)
    for name, expected in evaluate(graph, inputs).items():
        assert_close(got[name], expected, 1e-5)
