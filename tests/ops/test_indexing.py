from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.types import parse_type
from tests.ops.onnx_cases import infer, node_case, run, run_onnx

OPS = {
    "Gather": ("gather", {"axis": 0}),
    "GatherElements": ("gather_elements", {"axis": 0}),
    "GatherND": ("gather_nd", {}),
    "Scatter": ("scatter_elements", {"axis": 0}),
    "ScatterElements": ("scatter_elements", {"axis": 0}),
    "ScatterND": ("scatter_nd", {}),
}
NODE_CASES = [
    "gather_0",
    "gather_1",
    "gather_2d_indices",
    "gather_negative_indices",
    "gather_elements_0",
    "gather_elements_1",
    "gather_elements_negative_indices",
    "gathernd_example_int32",
    "gathernd_example_float32",
    "gathernd_example_int32_batch_dim1",
    "scatter_without_axis",
    "scatter_with_axis",
    "scatter_elements_without_axis",
    "scatter_elements_with_axis",
    "scatter_elements_with_negative_indices",
    "scatter_elements_with_duplicate_indices",
    "scatter_elements_with_reduction_mul",
    "scatter_elements_with_reduction_max",
    "scatter_elements_with_reduction_min",
    "scatternd",
    "scatternd_add",
    "scatternd_multiply",
    "scatternd_max",
    "scatternd_min",
]
TOP_K_CASES = [
    "top_k",
    "top_k_uint64",
    "top_k_same_values",
    "top_k_same_values_largest",
    "top_k_same_values_2d",
    "top_k_smallest",
]


@pytest.mark.parametrize("name", NODE_CASES)
def test_onnx_node_cases(name: str) -> None:
    case = node_case(name)
    op, defaults = OPS[case.op_type]
    (y,) = run(op, case.inputs, {**defaults, **case.attributes})
    np.testing.assert_allclose(y, case.expected[0], rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("name", [*TOP_K_CASES, "top_k_negative_axis"])
def test_top_k_node_cases(name: str) -> None:
    case = node_case(name)
    x, k = case.input(0), case.input(1)
    assert x is not None and k is not None
    given = dict(case.attributes)
    values, indices = run("top_k", [x], {**given, "axis": given.get("axis", -1) % x.ndim, "k": int(k[0])})
    np.testing.assert_array_equal(values, case.expected[0])
    np.testing.assert_array_equal(indices, case.expected[1])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("largest", [False, True])
def test_top_k_with_ties_against_onnxruntime(axis: int, largest: bool) -> None:
    x = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.float32)
    given = {"axis": axis, "largest": int(largest)}
    expected = run_onnx("TopK", [x, np.array([4])], given, outputs=2, runtime=True)
    results = run("top_k", [x], {"axis": axis, "largest": largest, "k": 4})
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_gathers_against_onnxruntime(axis: int, index_dtype: type) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    indices = rng.integers(-3, 3, (2, 3)).astype(index_dtype)
    (expected,) = run_onnx("Gather", [x, indices], {"axis": axis}, runtime=True)
    np.testing.assert_array_equal(run("gather", [x, indices], {"axis": axis})[0], expected)
    indices = rng.integers(-3, 3, (2, 3, 4)).astype(index_dtype)
    (expected,) = run_onnx("GatherElements", [x, indices], {"axis": axis}, runtime=True)
    np.testing.assert_array_equal(run("gather_elements", [x, indices], {"axis": axis})[0], expected)


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("depth", [1, 2])
def test_gather_nd_against_onnxruntime(batch_dims: int, depth: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 4, 5, 2)).astype(np.float32)
    indices = rng.integers(-3, 3, (3, 2, depth))
    (expected,) = run_onnx("GatherND", [x, indices], {"batch_dims": batch_dims}, runtime=True)
    np.testing.assert_array_equal(run("gather_nd", [x, indices], {"batch_dims": batch_dims})[0], expected)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatters_against_onnxruntime(reduction: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 5)).astype(np.float32)
    indices = rng.integers(-4, 4, (6, 5))
    updates = rng.standard_normal((6, 5)).astype(np.float32)
    given = {"axis": 0, "reduction": reduction}
    (expected,) = run_onnx("ScatterElements", [x, indices, updates], given, opset=18, runtime=True)
    np.testing.assert_allclose(run("scatter_elements", [x, indices, updates], given)[0], expected, rtol=1e-5)
    tuples = indices[:, :1]
    given = {"reduction": reduction}
    (expected,) = run_onnx("ScatterND", [x, tuples, updates], given, opset=18, runtime=True)
    np.testing.assert_allclose(run("scatter_nd", [x, tuples, updates], given)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.int8, np.uint8])
def test_narrow_element_types(dtype: type) -> None:
    x = np.array([1, 2, 3], dtype)
    (y,) = run("scatter_elements", [x, np.array([2, 2]), np.array([1, 2], dtype)], {"axis": 0, "reduction": "add"})
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype(np.float32), [1, 2, 6])
    values, indices = run("top_k", [x], {"k": 2, "axis": 0})
    np.testing.assert_array_equal(values.astype(np.float32), [3, 2])
    np.testing.assert_array_equal(indices, [2, 1])


@pytest.mark.parametrize(
    ("op", "types", "attributes", "expected"),
    [
        ("gather", ["float32[N, C, H]", "int64[B, K]"], {"axis": 1}, ["float32[N, B, K, H]"]),
        ("gather", ["float32[V, 8]", "int32[]"], {"axis": 0}, ["float32[8]"]),
        ("gather_elements", ["float32[N, H]", "int64[N, K]"], {"axis": 1}, ["float32[N, K]"]),
        ("gather_nd", ["float32[N, C, H]", "int64[N, K, 1]"], {"batch_dims": 1}, ["float32[N, K, H]"]),
        ("gather_nd", ["float32[N, C]", "int64[K, 2]"], {}, ["float32[K]"]),
        ("scatter_elements", ["int8[N, H]", "int32[N, K]", "int8[N, K]"], {"axis": 1}, ["int8[N, H]"]),
        ("scatter_nd", ["float32[N, H]", "int64[K, 1]", "float32[K, H]"], {}, ["float32[N, H]"]),
        ("top_k", ["float16[N, H]"], {"axis": 1, "k": 3}, ["float16[N, 3]", "int64[N, 3]"]),
    ],
)
def test_symbolic_inference(op: str, types: list[str], attributes: dict[str, Any], expected: list[str]) -> None:
    assert infer(op, types, attributes) == expected


@pytest.mark.parametrize(
    ("op", "types", "attributes", "message"),
    [
        ("gather", ["float32[2]", "float32[2]"], {"axis": 0}, "element type"),
        ("gather", ["float32[2]", "int64[2]"], {"axis": 1}, "axis"),
        ("gather_elements", ["float32[2, 2]", "int64[2]"], {"axis": 0}, "wrong rank"),
        ("gather_elements", ["float32[2, 2]", "int64[2, 3]"], {"axis": 0}, "reach outside"),
        ("gather_elements", ["float32[2, N]", "int64[2, N + 1]"], {"axis": 0}, "reach outside"),
        ("gather_nd", ["float32[2, 2]", "int64[2, 3]"], {}, "index tuples"),
        ("gather_nd", ["float32[2, 2]", "int64[2, K]"], {}, "index tuples"),
        ("gather_nd", ["float32[N, 2]", "int64[M, 1]"], {"batch_dims": 1}, "batch_dims"),
        ("scatter_elements", ["float32[2]", "int64[2]", "float32[1]"], {"axis": 0}, "updates has the wrong shape"),
        ("scatter_elements", ["float32[2]", "int64[2]", "int32[2]"], {"axis": 0}, "element types"),
        ("scatter_nd", ["float32[2, 3]", "int64[4, 1]", "float32[4]"], {}, "updates has the wrong shape"),
        ("top_k", ["float32[2]"], {"axis": 0, "k": 3}, "unusable k"),
        ("top_k", ["float32[N]"], {"axis": 0, "k": parse_type("bool[N + 1]").shape[0]}, "unusable k"),
    ],
)
def test_refuses(op: str, types: list[str], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        infer(op, types, attributes)


@pytest.mark.parametrize("index", [3, -4])
def test_indices_out_of_range(index: int) -> None:
    with pytest.raises(EdgeIRError, match="index out of range"):
        run("gather", [np.zeros(3), np.array([index])], {"axis": 0})
