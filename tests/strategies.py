"""Hypothesis strategies for valid graphs with bounded sizes, and for arrays that fit them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

import edgeir.ops  # noqa: F401 (registers the operators)
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.dtype import numpy_dtype

LARGEST = 1500
"""Elements of any value."""

SMOOTH_UNARY = ("abs", "neg", "relu", "sigmoid", "tanh", "sin", "cos", "erf", "atan")
BINARY = ("add", "sub", "mul", "minimum", "maximum")
COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal")

Draw = Callable[[st.SearchStrategy[Any]], Any]


def shapes(least: int = 0, most: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of rank `least` to `most`, sizes 1 to 5."""
    return st.lists(st.integers(1, 5), min_size=least, max_size=most).map(tuple)


@st.composite
def graphs(draw: Draw, most_nodes: int = 8, floats_only: bool = False) -> Graph:
    """A verified graph: shared values, diamonds, constants, several outputs, inputs returned directly."""
    graph = Graph(draw(st.sampled_from(["graph", "a b", "net/1"])))
    for position in range(draw(st.integers(1, 3))):
        image = position == 0 and draw(st.booleans())
        shape = (1, draw(st.integers(1, 4)), draw(st.integers(3, 6)), draw(st.integers(3, 6))) if image else None
        shape = draw(shapes()) if shape is None else shape
        dtype = "float32" if floats_only else draw(st.sampled_from(["float32", "float32", "float32", "int32"]))
        graph.add_input(f"x{position}", TensorType(dtype, shape))
    pool: list[Value] = list(graph.inputs)
    for _ in range(draw(st.integers(0, most_nodes))):
        step = draw(st.sampled_from(_STEPS))
        value = draw(st.sampled_from(pool))
        pool += [result for result in step(draw, graph, value, pool) if _size(result) <= LARGEST]
    outputs = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
    # The last value, so that graphs are mostly alive.
    graph.set_outputs([(f"y{i}", value) for i, value in enumerate([*outputs, pool[-1]])])
    graph.verify()
    return graph


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded arrays for a graph's inputs: normal floats, small integers."""
    generator = np.random.default_rng(seed)
    result = {}
    for value in graph.inputs:
        shape, dtype = value.type.static_shape, numpy_dtype(value.type.dtype)
        floating = "float" in value.type.dtype
        array = generator.standard_normal(shape) if floating else generator.integers(-3, 4, shape)
        result[value.name] = np.asarray(array).astype(dtype)
    return result


def assert_outputs_close(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Same names in the same order, dtypes and shapes; floats up to rounding relative to the output's range."""
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        got = found[name]
        assert got.dtype == wanted.dtype and got.shape == wanted.shape, name
        if wanted.dtype.kind in "biu":
            np.testing.assert_array_equal(got, wanted, err_msg=name)
        else:
            scale = float(np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted)))
            np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol * max(1.0, scale), err_msg=name)


def _size(value: Value) -> int:
    return int(np.prod(value.type.static_shape))


def _add(graph: Graph, op: str, inputs: Sequence[Value | None], **attributes: Any) -> list[Value]:
    return list(graph.add_node(op, inputs, attributes, names=[op], location=f"{op} of {inputs[0]!r}").outputs)


def _constant(draw: Draw, graph: Graph, shape: tuple[int, ...], dtype: str = "float32") -> Value:
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    integers = generator.integers(-4, 5, shape)
    array = integers / 4 if "float" in dtype else integers
    return graph.add_constant(np.asarray(array).astype(numpy_dtype(dtype)))


def _is_float(value: Value) -> bool:
    return value.type.dtype == "float32"


def _unary(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if x.type.dtype == "bool":
        return _add(graph, "logical_not", [x])
    names = SMOOTH_UNARY if _is_float(x) else ("abs", "neg", "relu")
    return _add(graph, draw(st.sampled_from(names)), [x])


def _binary(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    partners = [v for v in pool if v.type.dtype == x.type.dtype and _broadcasts(x, v)]
    if x.type.dtype == "bool":
        return _add(graph, draw(st.sampled_from(["logical_and", "logical_xor"])), [x, draw(st.sampled_from(partners))])
    choice = draw(st.integers(0, 2))
    if choice == 0:
        y = draw(st.sampled_from(partners))
    else:
        shape = x.type.static_shape[draw(st.integers(0, x.type.rank)) :]
        y = _constant(draw, graph, tuple(n if draw(st.booleans()) else 1 for n in shape), x.type.dtype)
    operands = [x, y] if draw(st.booleans()) else [y, x]
    return _add(graph, draw(st.sampled_from(BINARY)), operands)


def _broadcasts(x: Value, y: Value) -> bool:
    try:
        shape = np.broadcast_shapes(x.type.static_shape, y.type.static_shape)
    except ValueError:
        return False
    return int(np.prod(shape)) <= LARGEST


def _division(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if not _is_float(x):
        return []
    (square,) = _add(graph, "mul", [x, x])
    (positive,) = _add(graph, "add", [square, graph.add_constant(np.array(1, np.float32))])
    result = _add(graph, draw(st.sampled_from(["sqrt", "log", "reciprocal"])), [positive])
    return [*result, *_add(graph, "div", [x, positive])]


def _choose(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if x.type.dtype == "bool":
        return []
    y = draw(st.sampled_from([v for v in pool if v.type.dtype == x.type.dtype and _broadcasts(x, v)]))
    # Comparing with a distant constant keeps ties, which rounding could decide otherwise, out of the way.
    limit = graph.add_constant(np.asarray(0.37 if _is_float(x) else 1).astype(x.type.dtype))
    (condition,) = _add(graph, draw(st.sampled_from(COMPARISONS)), [draw(st.sampled_from([x, x])), limit])
    return [condition, *_add(graph, "where", [condition, x, y])]


def _cast(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if _is_float(x):
        # Truncation is only safe to compare on values that are whole anyway.
        return []
    return _add(graph, "cast", [x], dtype=draw(st.sampled_from(["float32", "int32", "int64"])))


def _clip(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if not _is_float(x):
        return []
    if draw(st.booleans()):
        return _add(graph, "leaky_relu", [x], alpha=draw(st.sampled_from([0.01, 0.5, 2.0])))
    bounds = draw(st.sampled_from([(None, 1.0), (0.0, 6.0), (-1.0, None), (-0.5, 0.5)]))
    return _add(graph, "clip", [x], minimum=bounds[0], maximum=bounds[1])


def _reduce(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if not x.type.rank or x.type.dtype == "bool":
        return []
    ops = ["reduce_sum", "reduce_max", "reduce_min"] + (["reduce_mean"] if _is_float(x) else [])
    axes = draw(st.sets(st.integers(0, x.type.rank - 1), min_size=1))
    return _add(graph, draw(st.sampled_from(ops)), [x], axes=sorted(axes), keepdims=draw(st.booleans()))


def _softmax(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if not x.type.rank or not _is_float(x):
        return []
    op = draw(st.sampled_from(["softmax", "log_softmax"]))
    return _add(graph, op, [x], axis=draw(st.integers(0, x.type.rank - 1)))


def _reshape(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    shape = list(x.type.static_shape)
    match draw(st.integers(0, 3)):
        case 0:
            shape = [_size(x)]
        case 1:
            shape.insert(draw(st.integers(0, len(shape))), 1)
        case 2 if len(shape) > 1:
            at = draw(st.integers(0, len(shape) - 2))
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        case _:
            shape = [size for size in shape if size != 1]
    return _add(graph, "reshape", [x], shape=shape)


def _transpose(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    return _add(graph, "transpose", [x], perm=draw(st.permutations(range(x.type.rank))))


def _slice(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    starts, sizes, steps = [], [], []
    for dim in x.type.static_shape:
        start, step = draw(st.integers(0, dim - 1)), draw(st.sampled_from([1, 1, 2, -1]))
        room = (start // -step if step < 0 else (dim - 1 - start) // step) + 1
        starts.append(start)
        steps.append(step)
        sizes.append(draw(st.integers(1, room)))
    return _add(graph, "slice", [x], starts=starts, sizes=sizes, steps=steps)


def _concat(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if not x.type.rank:
        return []
    axis = draw(st.integers(0, x.type.rank - 1))

    def rest(value: Value) -> tuple[object, ...]:
        shape = value.type.shape
        return (value.type.dtype, *shape[:axis], *shape[axis + 1 :]) if value.type.rank == x.type.rank else ()

    others = [v for v in pool if rest(v) == rest(x)]
    parts = draw(st.lists(st.sampled_from(others), min_size=1, max_size=2))
    if sum(map(_size, [x, *parts])) > LARGEST:
        return []
    return _add(graph, "concat", [x, *parts], axis=axis)


def _pad(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if x.type.dtype == "bool":
        return []
    padding = [draw(st.integers(0, 2)) for _ in range(2 * x.type.rank)]
    grown = np.array(x.type.static_shape, dtype=int) + padding[: x.type.rank] + padding[x.type.rank :]
    if np.prod(grown) > LARGEST:
        return []
    mode = draw(st.sampled_from(["constant", "constant", "edge", "reflect"]))
    fill = mode == "constant" and draw(st.booleans())
    operands = [x, graph.add_constant(np.asarray(2).astype(x.type.dtype))] if fill else [x]
    return _add(graph, "pad", operands, padding=padding, mode=mode)


def _expand(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    shape = [draw(st.integers(1, 4)) if dim == 1 else dim for dim in x.type.static_shape]
    if np.prod(shape) * 2 > LARGEST:
        return []
    if draw(st.booleans()):
        return _add(graph, "tile", [x], repeats=[draw(st.integers(1, 2)) for _ in shape]) if len(shape) < 4 else []
    return _add(graph, "expand", [x], shape=[2, *shape] if len(shape) < 4 and draw(st.booleans()) else shape)


def _gather(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if not x.type.rank:
        return []
    axis = draw(st.integers(0, x.type.rank - 1))
    dim = x.type.static_shape[axis]
    indices = draw(st.lists(st.integers(-dim, dim - 1), min_size=1, max_size=4))
    return _add(graph, "gather", [x, graph.add_constant(np.array(indices, np.int64))], axis=axis)


def _matmul(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if x.type.rank < 2 or not _is_float(x):
        return []
    transpose_a, transpose_b = draw(st.booleans()), draw(st.booleans())
    inner, columns = x.type.static_shape[-2 if transpose_a else -1], draw(st.integers(1, 9))
    shape = (columns, inner) if transpose_b else (inner, columns)
    weight = _constant(draw, graph, shape)
    return _add(graph, "matmul", [x, weight], transpose_a=transpose_a, transpose_b=transpose_b)


def _conv(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if x.type.rank not in (3, 4) or not _is_float(x):
        return []
    spatial = x.type.rank - 2
    channels = x.type.static_shape[1]
    depthwise = draw(st.booleans())
    groups = channels if depthwise else 1
    outputs = channels * draw(st.integers(1, 2)) if depthwise else draw(st.sampled_from([1, 3, 8, 16]))
    kernel = [draw(st.integers(1, min(3, dim))) for dim in x.type.static_shape[2:]]
    weight = _constant(draw, graph, (outputs, channels // groups, *kernel))
    operands = [x, weight] + ([_constant(draw, graph, (outputs,))] if draw(st.booleans()) else [])
    padding = [draw(st.integers(0, extent - 1)) for extent in kernel] * 2
    strides = [draw(st.integers(1, 2)) for _ in range(spatial)]
    attributes = {"strides": strides, "padding": padding, "dilations": [1] * spatial, "groups": groups}
    (y,) = _add(graph, "conv", operands, **attributes)
    if draw(st.booleans()):
        statistics = [_constant(draw, graph, (outputs,)) for _ in range(3)]
        variance = graph.add_constant(np.full((outputs,), 0.75, np.float32))
        return [y, *_add(graph, "batch_norm", [y, *statistics, variance], epsilon=1e-5)]
    return [y, *_add(graph, "relu", [y])]


def _pool(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    if x.type.rank not in (3, 4) or not _is_float(x):
        return []
    kernel = [draw(st.integers(1, min(3, dim))) for dim in x.type.static_shape[2:]]
    attributes: dict[str, Any] = {
        "kernel": kernel,
        "strides": [draw(st.integers(1, 2)) for _ in kernel],
        "padding": [draw(st.integers(0, extent // 2)) for extent in kernel] * 2,
        "dilations": [1] * len(kernel),
    }
    return _add(graph, draw(st.sampled_from(["max_pool", "average_pool"])), [x], **attributes)


def _layer_norm(draw: Draw, graph: Graph, x: Value, pool: list[Value]) -> list[Value]:
    # On fewer elements the variance may be 0, and the quotient rounding noise.
    if not x.type.rank or not _is_float(x) or not x.is_input or x.type.static_shape[-1] < 3:
        return []
    scale = _constant(draw, graph, (x.type.static_shape[-1],))
    return _add(graph, "layer_norm", [x, scale], axis=x.type.rank - 1, epsilon=1e-5)


_STEPS: tuple[Callable[[Draw, Graph, Value, list[Value]], list[Value]], ...] = (
    _unary,
    _binary,
    _binary,
    _division,
    _choose,
    _cast,
    _clip,
    _reduce,
    _softmax,
    _reshape,
    _transpose,
    _slice,
    _concat,
    _pad,
    _expand,
    _gather,
    _matmul,
    _conv,
    _conv,
    _pool,
    _layer_norm,
)
