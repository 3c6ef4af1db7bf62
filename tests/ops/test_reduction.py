from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, infer, onnx_run, run

N, H = symbol("N"), symbol("H")
REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_mean": "ReduceMean",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_reduce(op: str, axes: tuple[int, ...], keepdims: bool, dtype: type) -> None:
    x = (np.random.default_rng(0).uniform(-3, 3, (2, 3, 4)) * 2).astype(dtype)
    expected = onnx_run(REDUCTIONS[op], [x, np.array(axes)], {"keepdims": int(keepdims)})
    assert_same(run(op, [x], {"axes": axes, "keepdims": keepdims}), expected)


def test_no_elements() -> None:
    x = np.zeros((2, 0), np.float32)
    values = {"reduce_sum": 0, "reduce_prod": 1, "reduce_max": -np.inf, "reduce_min": np.inf}
    for op, value in values.items():
        assert (run(op, [x], {"axes": [1]}) == value).all()
    assert (run("reduce_max", [np.zeros((2, 0), np.int8)], {"axes": [1]}) == -128).all()
    assert not run("reduce_max", [np.zeros((2, 0), bool)], {"axes": [1]}).any()


def test_bool_small_integers_and_half() -> None:
    x = np.array([[True, False], [False, False]])
    assert run("reduce_max", [x], {"axes": [1], "keepdims": False}).tolist() == [True, False]
    assert run("reduce_min", [x], {"axes": [0], "keepdims": False}).tolist() == [False, False]
    small = np.array([100, 100, -7], np.int8)
    assert run("reduce_mean", [small], {"axes": [0], "keepdims": False}) == 64
    assert run("reduce_mean", [-small], {"axes": [0], "keepdims": False}) == -64
    ones = np.ones(5000, np.float16)
    assert run("reduce_sum", [ones], {"axes": [0], "keepdims": False}) == 5000
    nan = np.array([1, np.nan], np.float32)
    assert np.isnan(run("reduce_max", [nan], {"axes": [0]})).all()


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("select_last", [False, True])
def test_arg(op: str, axis: int, keepdims: bool, select_last: bool) -> None:
    x = np.random.default_rng(0).integers(0, 3, (5, 6)).astype(np.float32)
    attributes = {"axis": axis, "keepdims": keepdims, "select_last": select_last}
    expected = onnx_run(
        op, [x], {k: int(v) for k, v in (attributes | {"select_last_index": select_last}).items() if k != "select_last"}
    )
    assert_same(run({"ArgMax": "arg_max", "ArgMin": "arg_min"}[op], [x], attributes), expected)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative(axis: int, exclusive: bool, reverse: bool) -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, (3, 4)).astype(np.float32)
    expected = onnx_run("CumSum", [x, np.array(axis)], {"exclusive": int(exclusive), "reverse": int(reverse)})
    attributes = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
    assert_same(run("cum_sum", [x], attributes), expected)
    # A product is the exponential of a sum of logarithms.
    assert_same(run("cum_prod", [x], attributes), np.exp(run("cum_sum", [np.log(x)], attributes)))
    for op in ("cum_sum", "cum_prod"):
        assert run(op, [np.zeros((2, 0), np.float32)], {**attributes, "axis": 1}).shape == (2, 0)
        small = run(op, [np.array([[100, 100]], np.int8)], {**attributes, "axis": 1})
        assert small.dtype == np.int8


def test_types() -> None:
    x = TensorType("float32", (N, 8, H, H))
    assert infer("reduce_mean", [x], {"axes": [2, 3]}).shape == (N, 8, 1, 1)
    assert infer("reduce_mean", [x], {"axes": [0, 2], "keepdims": False}).shape == (8, H)
    assert infer("arg_max", [x], {"axis": 1}) == TensorType("int64", (N, 1, H, H))
    assert infer("cum_sum", [x], {"axis": 1}) == x
    for axes in ([], [1, 0], [1, 1]):
        with pytest.raises(TypeInferenceError, match="axes are wrong"):
            infer("reduce_sum", [x], {"axes": axes})
    with pytest.raises(TypeInferenceError, match="axes is out of range"):
        infer("reduce_sum", [x], {"axes": [4]})
    with pytest.raises(TypeInferenceError, match="arg_max of no elements"):
        infer("arg_max", [TensorType("float32", (0, 2))], {"axis": 0})


def test_spatial_reduction_keeps_the_layout() -> None:
    x = TensorType("float32", (1, 16, 8, 8), "NCHW8c")
    assert infer("reduce_mean", [x], {"axes": [2, 3]}) == TensorType("float32", (1, 16, 1, 1), "NCHW8c")
    for attributes in ({"axes": [2, 3], "keepdims": False}, {"axes": [1]}):
        with pytest.raises(EdgeIRError, match="reads plain tensors only"):
            infer("reduce_mean", [x], attributes)
