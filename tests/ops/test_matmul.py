from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, build, infer, onnx_run, run

B, M, K = symbol("B"), symbol("M"), symbol("K")


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(("left", "right"), [((), ()), ((2, 3), (3,)), ((1, 3), (2, 1))])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64])
def test_matmul(transpose_a: bool, transpose_b: bool, left: tuple, right: tuple, dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (*left, 4, 5)).astype(dtype), rng.integers(-9, 9, (*right, 5, 6)).astype(dtype)
    expected = onnx_run("MatMul", [a, b])
    got = run(
        "matmul",
        [a.swapaxes(-1, -2).copy() if transpose_a else a, b.swapaxes(-1, -2).copy() if transpose_b else b],
        {"transpose_a": transpose_a, "transpose_b": transpose_b},
    )
    assert_same(got, expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_accumulates_in_float32(dtype: type) -> None:
    rng = np.random.default_rng(0)
    # All of one sign, so that a sum kept in few bits stops growing.
    a, b = rng.uniform(0.5, 1, (3, 2000)).astype(dtype), rng.uniform(0.5, 1, (2000, 4)).astype(dtype)
    expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)
    # One unit in the last place of bfloat16 is 2**-8.
    assert_same(run("matmul", [a, b]), expected, rtol=2.0**-7, atol=0)


EQUATIONS = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("bhid, bhjd -> bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]),
    ("...ij,...jk->...ik", [(2, 1, 3, 4), (2, 5, 4, 2)]),
    ("...ij->...ji", [(2, 3, 4)]),
    ("ii->i", [(3, 3)]),
    ("ii", [(3, 3)]),
    ("ba", [(2, 3)]),
    ("i,j,k->kji", [(2,), (3,), (4,)]),
    ("ij->", [(2, 3)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_einsum(equation: str, shapes: list) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    assert_same(run("einsum", arrays, {"equation": equation}), onnx_run("Einsum", arrays, {"equation": equation}))


def test_einsum_broadcasts_ellipses_of_different_rank() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 3, 4)).astype(np.float32), rng.standard_normal((5, 4, 2)).astype(np.float32)
    assert_same(run("einsum", [a, b], {"equation": "...ij,...jk->...ik"}), a @ b)


def test_symbolic_shapes_and_macs() -> None:
    graph = build("matmul", [TensorType("float32", (B, 8, M, K)), TensorType("float32", (K, 16))])
    (node,) = graph.nodes
    assert node.output.type.shape == (B, 8, M, 16)
    types = [value.type for value in node.present_inputs]
    assert node.definition.macs(types, [node.output.type], node.attributes) == B * 8 * M * 16 * K
    types = [TensorType("float32", (B, M, K)), TensorType("float32", (B, K, 4))]
    graph = build("einsum", types, {"equation": "bmk,bkn->bmn"})
    (node,) = graph.nodes
    assert node.output.type.shape == (B, M, 4)
    assert node.definition.macs(types, [node.output.type], node.attributes) == B * M * K * 4


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 3), (4, 5), "inner dimensions differ"),
        ((2, K), (M, 5), "inner dimensions differ"),
        ((3,), (3, 5), "a has the wrong rank"),
        ((2, 2, 3), (4, 3, 5), "do not broadcast"),
    ],
)
def test_wrong_matmul(a: tuple, b: tuple, message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        infer("matmul", [TensorType("float32", a), TensorType("float32", b)])


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ij->ij", "differ in number"),
        ("ijk,jk->ik", "does not fit the ranks"),
        ("ij,jk->iz", "malformed result"),
        ("i1,jk->ik", "malformed equation"),
        ("ij,ik->jk", "do not broadcast"),
    ],
)
def test_wrong_einsum(equation: str, message: str) -> None:
    types = [TensorType("float32", (2, 3)), TensorType("float32", (3, 4))]
    with pytest.raises(TypeInferenceError, match=message):
        infer("einsum", types, {"equation": equation})
