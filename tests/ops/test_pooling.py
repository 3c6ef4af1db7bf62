from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import TensorType, symbol
from tests.ops.onnx_oracle import assert_same, infer, onnx_run, run

N, H = symbol("N"), symbol("H")


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], dict]:
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes = {
        "kernel": kernel,
        "strides": [draw(st.integers(1, 4)) for _ in range(rank)],
        # ONNX wants padding below the kernel size, so that no window lies in it entirely.
        "padding": [draw(st.integers(0, extent - 1)) for extent in kernel * 2],
        "dilations": [1] * rank,
        "ceil_mode": draw(st.booleans()),
    }
    return [draw(st.integers(5, 9)) for _ in range(rank)], attributes


def onnx_attributes(attributes: dict) -> dict:
    names = {"kernel": "kernel_shape", "padding": "pads"}
    return {names.get(key, key): int(v) if isinstance(v, bool) else v for key, v in attributes.items()}


@given(cases(), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_max_pool(case: tuple[list[int], dict], data: st.DataObject) -> None:
    sizes, attributes = case
    if not any(attributes["padding"]):
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in sizes]
    x = np.random.default_rng(0).standard_normal((2, 3, *sizes)).astype(np.float32) - 5
    assert_same(run("max_pool", [x], attributes), onnx_run("MaxPool", [x], onnx_attributes(attributes)))


@given(cases(), st.booleans())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_average_pool(case: tuple[list[int], dict], include: bool) -> None:
    sizes, attributes = case
    attributes["count_include_pad"] = include
    x = np.random.default_rng(0).standard_normal((2, 3, *sizes)).astype(np.float32)
    expected = onnx_run("AveragePool", [x], onnx_attributes(attributes))
    assert_same(run("average_pool", [x], attributes), expected)


def window(**given: object) -> dict[str, object]:
    return {"kernel": [2, 2], "strides": [2, 2], "padding": [0] * 4, "dilations": [1, 1], **given}


def test_integers_nan_and_half() -> None:
    x = np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4)
    assert_same(run("max_pool", [x], window()), onnx_run("MaxPool", [x], onnx_attributes(window())))
    x = np.full((1, 1, 4, 4), -128, np.int8)
    assert (run("max_pool", [x], window(padding=[1, 1, 1, 1])) == -128).all()
    y = np.ones((1, 1, 2, 2), np.float16)
    y[0, 0, 0, 0] = np.nan
    assert np.isnan(run("max_pool", [y], window())).all()
    assert run("average_pool", [np.ones((1, 1, 2, 2), np.float16)], window()).dtype == np.float16


def test_window_in_the_end_padding_is_dropped() -> None:
    x = TensorType("float32", (1, 1, 2, 2))
    attributes = window(kernel=[1, 1], strides=[2, 2], padding=[0, 0, 1, 1], ceil_mode=True)
    assert infer("max_pool", [x], attributes).shape == (1, 1, 1, 1)


def test_symbolic_shapes() -> None:
    x = TensorType("float32", (N, 3, H, 32))
    assert infer("max_pool", [x], window()).shape == (N, 3, (H - 2) // 2 + 1, 16)
    assert infer("max_pool", [x], window(strides=[1, 2], ceil_mode=True)).shape == (N, 3, H - 1, 16)
    with pytest.raises(TypeInferenceError, match="ceil_mode needs a fixed size"):
        infer("max_pool", [x], window(ceil_mode=True))


def test_layout_is_kept() -> None:
    x = TensorType("float32", (1, 16, 8, 8), "NCHW8c")
    for op in ("max_pool", "average_pool"):
        assert infer(op, [x], window()) == TensorType("float32", (1, 16, 4, 4), "NCHW8c")
    with pytest.raises(EdgeIRError, match="layout not supported"):
        infer("max_pool", [x.with_layout("NCHW8w")], window())


def test_wrong_inputs() -> None:
    x = TensorType("float32", (1, 3, 8, 8))
    with pytest.raises(TypeInferenceError, match="kernel is wrong"):
        infer("max_pool", [x], window(kernel=[2]))
    with pytest.raises(TypeInferenceError, match="does not fit"):
        infer("max_pool", [x], window(kernel=[9, 2]))
    with pytest.raises(TypeInferenceError, match="int8"):
        infer("average_pool", [TensorType("int8", (1, 3, 8, 8))], window())


def test_empty_batch() -> None:
    x = np.zeros((0, 2, 4, 4), np.float32)
    for op in ("max_pool", "average_pool"):
        assert run(op, [x], window()).shape == (0, 2, 2, 2)
