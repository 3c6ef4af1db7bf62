"""Symbolic dimensions, fixed ones, and what models compute from shapes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.frontend import from_model
from edgeir.ir import symbol
from edgeir.ir.evaluate import evaluate
from tests.frontend.onnx_text_models import check, operators, parse


def test_names_of_symbolic_dimensions_become_identifiers() -> None:
    model = parse("(float[N,3] x) => (float[N,3] y)", "y = Relu(x)", 13)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for text, name in {"batch size": "batch_size", "2*N+1": "d2_N_1", "é": "dim", "a.b-c": "a_b_c"}.items():
        dims[0].dim_param = text
        assert from_model(model).inputs[0].type.shape == (symbol(name), 3)


@pytest.mark.parametrize("unknown", [-1, 0, "?", "", "-1", None])
def test_unknown_dimensions_become_fresh_symbols(unknown: int | str | None) -> None:
    model = parse("(float[N,N,3] x) => (float[N,N,3] y)", "y = Relu(x)", 13)
    for axis in range(2):
        dim = model.graph.input[0].type.tensor_type.shape.dim[axis]
        dim.Clear()
        if isinstance(unknown, int):
            dim.dim_value = unknown
        elif unknown is not None:
            dim.dim_param = unknown
    assert from_model(model).inputs[0].type.shape == (symbol("x_0"), symbol("x_1"), 3)


def test_names_that_collide_stay_apart() -> None:
    model = parse("(float[N,M,N] x) => (float[N,M,N] y)", "y = Relu(x)", 13)
    for axis, text in enumerate(["a b", "a-b", "a b"]):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = text
    assert from_model(model).inputs[0].type.shape == (symbol("a_b"), symbol("a_b_2"), symbol("a_b"))


def test_shapes_fix_a_symbol_everywhere() -> None:
    model = parse("(float[N,3] x, float[N,M] z) => (float[N,3] y)", "s = ReduceSum<keepdims=1>(z) y = Add(x, s)", 11)
    graph = from_model(model, {"x": (5, -1)})
    assert [value.type.shape for value in graph.inputs] == [(5, 3), (5, symbol("M"))]
    graph = from_model(model, {"z": ("batch", None)})
    assert [value.type.shape for value in graph.inputs] == [(symbol("batch"), 3), (symbol("batch"), symbol("M"))]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"q": (1, 3)}, "no such input"),
        ({"x": (1,)}, "wrong rank"),
        ({"x": (1, 4)}, "does not fit"),
        ({"x": (1.5, 3)}, "not a size"),
        ({"x": (-2, 3)}, "not a size"),
        ({"x": (True, 3)}, "not a size"),
        ({"x": ("2 +", 3)}, "not a dimension"),
        ({"x": (1, 3), "z": (2, 3)}, "two sizes"),
        ({"x": (2**40, 3)}, "too large"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict, message: str) -> None:
    model = parse("(float[N,3] x, float[N,3] z) => (float[N,3] y)", "y = Add(x, z)", 13)
    with pytest.raises(EdgeIRError, match=message):
        from_model(model, shapes)


def test_a_multiple_makes_divisions_exact() -> None:
    model = parse(
        "(float[1,1,H,4] x) => (float[1,1,H,4] y)",
        "d = MaxPool<kernel_shape=[2,1], strides=[2,1]>(x) u = Resize(d, r, s) y = Add(u, x)",
        11,
        "float[0] r = {}, float[4] s = {1.0,1.0,2.0,1.0}",
    )
    with pytest.raises(UnsupportedModelError, match="fix H with shapes"):
        from_model(model)
    graph = from_model(model, {"x": (1, 1, "2*h", 4)})
    assert graph.outputs[0].type.shape == (1, 1, symbol("h") * 2, 4)


# name: (signature, body, initializers, operators that remain)
COMPUTED: dict[str, tuple[str, str, str, list[str]]] = {
    "flatten by gathered shape": (
        "(float[N,3,4] x) => (float[N,12] y)",
        "s = Shape(x) b = Gather(s, i) u = Unsqueeze(b, z) r = Concat<axis=0>(u, m) y = Reshape(x, r)",
        "int64 i = {0}, int64[1] z = {0}, int64[1] m = {-1}",
        ["reshape"],
    ),
    "reshape by arithmetic": (
        "(float[N,6,4] x) => (float[N,2,12] y)",
        "s = Shape(x) a = Slice(s, z, o) b = Slice(s, o, t) c = Div(b, three) d = Mul(b, t) r = Concat<axis=0>(a, c, d)"
        " y = Reshape(x, r)",
        "int64[1] z = {0}, int64[1] o = {1}, int64[1] t = {2}, int64[1] three = {3}",
        ["reshape"],
    ),
    "expand to another's shape": (
        "(float[N,M] x, float[1,1] z) => (float[N,M] y)",
        "s = Shape(x) y = Expand(z, s)",
        "",
        ["expand"],
    ),
    "expand with minus one replaced": (
        "(float[N,3] x, float[1,3] z) => (float[N,3] y)",
        "s = Shape(x) o = ConstantOfShape<value = int64[1] {1}>(two) m = Mul(o, minus) e = Equal(s, m)"
        " w = Where(e, o, s) y = Expand(z, w)",
        "int64[1] two = {2}, int64 minus = {-1}",
        ["expand"],
    ),
    "fill of a computed shape": (
        "(float[N,3] x) => (float[N,3] y)",
        "s = Shape(x) f = ConstantOfShape<value = float[1] {2.0}>(s) y = Add(x, f)",
        "",
        ["expand", "add"],
    ),
    "positions of a sequence": (
        "(float[N,3] x) => (float[N,3] y)",
        "s = Shape(x) n = Gather(s, z) r = Range(z, n, o) f = Cast<to=1>(r) u = Unsqueeze(f, a) y = Add(x, u)",
        "int64 z = {0}, int64 o = {1}, int64[1] a = {1}",
        ["iota", "cast", "reshape", "add"],
    ),
    "resize to twice the size": (
        "(float[1,2,H,W] x) => (float[1,2,P,Q] y)",
        "s = Shape(x) a = Slice(s, z, t) b = Slice(s, t, f) d = Mul(b, t) q = Concat<axis=0>(a, d)"
        " y = Resize(x, e, e, q)",
        "int64[1] z = {0}, int64[1] t = {2}, int64[1] f = {4}, float[0] e = {}",
        ["resize"],
    ),
    "resize through floats": (
        "(float[1,2,H,W] x) => (float[1,2,P,Q] y)",
        "s = Shape(x) a = Slice(s, z, t) b = Slice(s, t, f) g = Cast<to=1>(b) d = Mul(g, two) o = Floor(d)"
        " i = Cast<to=7>(o) q = Concat<axis=0>(a, i) y = Resize(x, e, e, q)",
        "int64[1] z = {0}, int64[1] t = {2}, int64[1] f = {4}, float[0] e = {}, float[1] two = {2.0}",
        ["resize"],
    ),
    "slice to half": (
        "(float[N,4] x) => (float[P,4] y)",
        "s = Shape(x) n = Slice(s, z, o) h = Div(n, t) y = Slice(x, z, h, z)",
        "int64[1] z = {0}, int64[1] o = {1}, int64[1] t = {2}",
        ["slice"],
    ),
    "drop the last": (
        "(float[N,4] x) => (float[P,4] y)",
        "y = Slice(x, z, m, z)",
        "int64[1] z = {0}, int64[1] m = {-1}",
        ["slice"],
    ),
    "all but the end is all": (
        "(float[N,4] x) => (float[N,4] y)",
        "t = Slice(x, z, m, z) y = Relu(t)",
        "int64[1] z = {0}, int64[1] m = {9223372036854775807}",
        ["relu"],
    ),
    "number of elements as data": (
        "(float[N,4] x) => (float y)",
        "n = Size(x) f = Cast<to=1>(n) s = ReduceSum<keepdims=0>(x) y = Div(s, f)",
        "",
        ["dims", "reshape", "cast", "reduce_sum", "div"],
    ),
    "shape as output": ("(float[N,4] x) => (int64[2] y)", "y = Shape(x)", "", ["dims"]),
    "tile by a size": (
        "(float[N,1] x) => (float[N,P] y)",
        "s = Shape(x) a = Slice(s, z, o) r = Concat<axis=0>(o, a) y = Tile(x, r)",
        "int64[1] z = {0}, int64[1] o = {1}",
        ["tile"],
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_computed_shapes_become_attributes(name: str) -> None:
    signature, body, weights, remaining = COMPUTED[name]
    graph = check(parse(signature, body, 13, weights), sizes={"N": 6, "M": 5, "H": 3, "W": 4})
    assert operators(graph) == remaining


def test_shapes_from_opset_15_take_a_range() -> None:
    graph = check(parse("(float[N,4,5] x) => (int64[1] y)", "y = Shape<start=1, end=-1>(x)", 15))
    assert operators(graph) == []
    assert graph.outputs[0].data.tolist() == [4]


def test_a_slice_beyond_a_symbolic_axis_is_refused_once_it_is_fixed() -> None:
    weights = "int64[1] z = {0}, int64[1] five = {5}"
    graph = from_model(parse("(float[N,4] x) => (float[P,4] y)", "y = Slice(x, z, five, z)", 13, weights))
    assert evaluate(graph, {"x": np.ones((7, 4), np.float32)})["y"].shape == (5, 4)
    with pytest.raises(EdgeIRError):
        graph.bind({"N": 3})


def test_operands_known_only_at_run_time_are_refused() -> None:
    model = parse("(float[N] x, int64[2] s) => (float[A,B] y)", "y = Reshape(x, s)", 13)
    with pytest.raises(UnsupportedModelError, match=r"input 1 \(%s\) must be constant or computed from shapes"):
        from_model(model)
    graph = from_model(model, {"x": (6,)}, freeze={"s": np.array([2, 3])})
    assert graph.outputs[0].type.shape == (2, 3)
    assert [value.name for value in graph.inputs] == ["x"]


def test_constants_fold_and_big_ones_do_not() -> None:
    small = "c = Constant<value = float[2] {1.0, 2.0}>() d = Exp(c) y = Add(x, d)"
    assert operators(check(parse("(float[2] x) => (float[2] y)", small, 13))) == ["add"]
    model = parse(
        "(float[1] x) => (float[1000,1000] y)",
        "d = Exp(w) y = Add(x, d)",
        13,
        weight_arrays={"w": np.ones((1000, 1000), np.float32)},
    )
    assert operators(from_model(model)) == ["exp", "add"]


def test_weights_kept_in_few_bits_stay_so() -> None:
    weights = {"w": np.arange(-60, 60, dtype=np.int8).reshape(12, 10), "s": np.array(0.1, np.float32)}
    body = "f = DequantizeLinear(w, s) h = Cast<to=1>(w) a = MatMul(x, f) b = MatMul(x, h) y = Add(a, b)"
    graph = check(parse("(float[2,12] x) => (float[2,10] y)", body, 13, weight_arrays=weights), tolerance=1e-3)
    assert sorted(operators(graph)) == ["add", "cast", "dequantize", "matmul", "matmul"]
