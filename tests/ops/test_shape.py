from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.types import parse_type
from tests.ops.onnx_cases import infer, node_case, run, run_onnx

ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=st.floats(-9, 9, width=32)
)
FAST = settings(max_examples=25, deadline=None, derandomize=True)


def dims(text: str) -> tuple[Any, ...]:
    return parse_type(f"float32[{text}]").shape


def same(result: np.ndarray, expected: np.ndarray) -> None:
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@FAST
@given(ARRAYS, st.data())
def test_transpose(x: np.ndarray, data: st.DataObject) -> None:
    perm = data.draw(st.permutations(range(x.ndim)))
    same(run("transpose", [x], {"perm": perm})[0], run_onnx("Transpose", [x], {"perm": perm})[0])


@FAST
@given(ARRAYS, st.data())
def test_slice(x: np.ndarray, data: st.DataObject) -> None:
    starts, ends, steps = [], [], []
    for size in x.shape:
        start = data.draw(st.integers(0, size - 1))
        step = data.draw(st.sampled_from([-2, -1, 1, 2, 3]))
        ends.append(data.draw(st.integers(start, size) if step > 0 else st.integers(-size - 1, start - size)))
        starts.append(start)
        steps.append(step)
    operands = [np.array(v, np.int64) for v in (starts, ends, range(x.ndim), steps)]
    (expected,) = run_onnx("Slice", [x, *operands], {})
    same(run("slice", [x], {"starts": starts, "sizes": expected.shape, "steps": steps})[0], expected)


@FAST
@given(ARRAYS, st.data())
def test_pad(x: np.ndarray, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    most = min(x.shape) - 1 if mode == "reflect" else 3
    padding = data.draw(st.lists(st.integers(0, most), min_size=2 * x.ndim, max_size=2 * x.ndim))
    value = np.array(2.5, np.float32) if mode == "constant" else None
    (expected,) = run_onnx("Pad", [x, np.array(padding, np.int64), value], {"mode": mode})
    same(run("pad", [x, value], {"padding": padding, "mode": mode})[0], expected)


@FAST
@given(ARRAYS, st.data())
def test_tile_and_expand(x: np.ndarray, data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.integers(1, 3), min_size=x.ndim, max_size=x.ndim))
    same(run("tile", [x], {"repeats": repeats})[0], run_onnx("Tile", [x, np.array(repeats, np.int64)], {})[0])
    thin = x[..., :1]
    shape = (2, *thin.shape[:-1], 5)
    same(run("expand", [thin], {"shape": shape})[0], run_onnx("Expand", [thin, np.array(shape, np.int64)], {})[0])


@FAST
@given(ARRAYS, st.data())
def test_concat(x: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, x.ndim - 1))
    inputs = [x, np.take(x, [0], axis), x]
    same(run("concat", inputs, {"axis": axis})[0], run_onnx("Concat", inputs, {"axis": axis})[0])


@pytest.mark.parametrize(
    "name",
    [
        "tril",
        "tril_neg",
        "tril_out_neg",
        "tril_pos",
        "tril_out_pos",
        "tril_square",
        "tril_square_neg",
        "tril_one_row_neg",
        "tril_zero",
        "triu",
        "triu_neg",
        "triu_out_neg_out",
        "triu_pos",
        "triu_out_pos",
        "triu_square",
        "triu_square_neg",
        "triu_one_row",
        "triu_zero",
    ],
)
def test_trilu(name: str) -> None:
    case = node_case(name)
    k = case.input(1)
    attributes = {"upper": bool(case.attributes.get("upper", 1)), "k": 0 if k is None else int(k)}
    same(run("trilu", [case.inputs[0]], attributes)[0], case.expected[0])


@pytest.mark.parametrize("name", ["edge_pad", "reflect_pad", "wrap_pad", "constant_pad"])
def test_pad_node_cases(name: str) -> None:
    case = node_case(name)
    padding = case.inputs[1]
    assert padding is not None
    attributes = {"padding": padding, "mode": case.attributes.get("mode", "constant")}
    same(run("pad", [case.inputs[0], case.input(2)], attributes)[0], case.expected[0])


def test_pad_folds_more_than_once() -> None:
    x = np.arange(3)
    for mode in ("reflect", "wrap", "edge"):
        (y,) = run("pad", [x], {"padding": [7, 8], "mode": mode})
        same(y, np.pad(x, (7, 8), mode=mode))  # type: ignore[call-overload]


@pytest.mark.parametrize("dtype", ["int4", "bfloat16", "float8_e4m3fn", "bool", "uint8", "float16"])
def test_moves_every_element_type(dtype: str) -> None:
    element = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = np.arange(6).reshape(2, 3).astype(element)
    same(run("transpose", [x], {"perm": [1, 0]})[0], x.T)
    same(run("pad", [x], {"padding": [0, 1, 0, 0]})[0], np.concatenate([np.zeros((2, 1), element), x], axis=1))
    same(run("concat", [x, x], {"axis": 0})[0], np.concatenate([x, x]))
    same(run("slice", [x], {"starts": [0, 2], "sizes": [2, 2], "steps": [1, -1]})[0], x[:, :0:-1])
    same(run("trilu", [x], {})[0], np.where([[1, 1, 1], [0, 1, 1]], x, np.zeros((), element)))


def test_iota_and_dims() -> None:
    same(run("iota", [], {"size": 4, "dtype": "float16"})[0], np.arange(4, dtype=np.float16))
    same(run("dims", [], {"values": [3, 1]})[0], np.array([3, 1], np.int64))
    assert infer("iota", [], {"size": dims("2*N")[0]}) == ["int64[2*N]"]
    assert infer("dims", [], {"values": dims("N, 3")}) == ["int64[2]"]


def test_reshape_evaluates() -> None:
    x = np.arange(6.0).reshape(2, 3)
    same(run("reshape", [x], {"shape": [3, 1, 2]})[0], x.reshape(3, 1, 2))
    same(run("reshape", [np.zeros((0, 3))], {"shape": [5, 0]})[0], np.zeros((5, 0)))


@pytest.mark.parametrize(
    ("op", "types", "attributes", "expected"),
    [
        ("reshape", ["float32[N, 4, H]"], {"shape": dims("4*H, N")}, "float32[4*H, N]"),
        ("reshape", ["float32[2*N, 6]"], {"shape": dims("N, 3, 4")}, "float32[N, 3, 4]"),
        ("reshape", ["float32[]"], {"shape": (1, 1)}, "float32[1, 1]"),
        ("expand", ["float32[1, N]"], {"shape": dims("B, H, N")}, "float32[B, H, N]"),
        ("tile", ["float32[N, 2]"], {"repeats": dims("2, M")}, "float32[2*N, 2*M]"),
        ("transpose", ["float32[N, 2, H]"], {"perm": [2, 0, 1]}, "float32[H, N, 2]"),
        ("slice", ["int8[N, H]"], {"starts": dims("0, H - 1"), "sizes": dims("N, H"), "steps": [1, -1]}, "int8[N, H]"),
        ("concat", ["bool[N, 2]", "bool[N, M]"], {"axis": 1}, "bool[N, M + 2]"),
        ("pad", ["float32[N, 3]", "float32[]"], {"padding": [1, 0, 2, 4]}, "float32[N + 3, 7]"),
        ("trilu", ["float32[N, H, H]"], {"upper": False}, "float32[N, H, H]"),
    ],
)
def test_symbolic_inference(op: str, types: list[str], attributes: dict[str, Any], expected: str) -> None:
    assert infer(op, types, attributes) == [expected]


@pytest.mark.parametrize(
    ("op", "types", "attributes", "message"),
    [
        ("reshape", ["float32[2, 3]"], {"shape": [4, 2]}, "changes the number of elements"),
        ("reshape", ["float32[N, 3]"], {"shape": [6]}, "may change the number of elements"),
        ("reshape", ["float32[2, 3]"], {"shape": [-1]}, "negative size"),
        ("expand", ["float32[2, 3]"], {"shape": [2, 4]}, "does not broadcast"),
        ("expand", ["float32[N]"], {"shape": dims("M")}, "does not broadcast"),
        ("expand", ["float32[1, 3]"], {"shape": [3]}, "does not broadcast"),
        ("tile", ["float32[2, 3]"], {"repeats": [2]}, "wrong length"),
        ("transpose", ["float32[2, 3]"], {"perm": [0, 0]}, "not a permutation"),
        ("slice", ["float32[4]"], {"starts": [2], "sizes": [3], "steps": [1]}, "reaches outside"),
        ("slice", ["float32[4]"], {"starts": [1], "sizes": [3], "steps": [-1]}, "reaches outside"),
        ("slice", ["float32[N]"], {"starts": [1], "sizes": dims("N"), "steps": [1]}, "reaches outside"),
        ("slice", ["float32[4]"], {"starts": [0], "sizes": [1], "steps": [0]}, "step is zero"),
        ("concat", [], {"axis": 0}, "needs an input"),
        ("concat", ["float32[2, 3]", "float32[3, 3]"], {"axis": 1}, "differ outside axis 1"),
        ("concat", ["float32[2]", "int32[2]"], {"axis": 0}, "element types"),
        ("concat", ["float32[2]"], {"axis": -1}, "axis"),
        ("pad", ["float32[2]"], {"padding": [-1, 0]}, "negative padding"),
        ("pad", ["float32[2]", "int32[]"], {"padding": [1, 0]}, "element types"),
        ("pad", ["float32[2]", "float32[]"], {"padding": [1, 0], "mode": "edge"}, "unusable fill value"),
        ("pad", ["float32[0]"], {"padding": [1, 0], "mode": "wrap"}, "nothing to repeat"),
        ("trilu", ["float32[2]"], {}, "wrong rank"),
        ("iota", [], {"size": 3, "dtype": "bool"}, "element type"),
    ],
)
def test_refuses(op: str, types: list[str], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        infer(op, types, attributes)


def test_concat_layouts() -> None:
    full, ragged = "float32[1, 32, 4, 4]{NCHW16c}", "float32[1, 24, 4, 4]{NCHW16c}"
    assert infer("concat", [full, full], {"axis": 1}) == ["float32[1, 64, 4, 4]{NCHW16c}"]
    assert infer("concat", [ragged, ragged], {"axis": 2}) == ["float32[1, 24, 8, 4]{NCHW16c}"]
    with pytest.raises(EdgeIRError, match="full blocks"):
        infer("concat", [ragged, full], {"axis": 1})
    with pytest.raises(EdgeIRError, match="different layouts"):
        infer("concat", [full, "float32[1, 32, 4, 4]"], {"axis": 1})
    with pytest.raises(EdgeIRError, match="plain tensors only"):
        infer("transpose", [full], {"perm": [0, 2, 3, 1]})


def test_evaluation_needs_fixed_dimensions() -> None:
    from edgeir.ir.op import find_op

    with pytest.raises(EdgeIRError, match="fixed"):
        find_op("iota").evaluate([], {"size": dims("N")[0], "dtype": "int64"})
