from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from tests.ops.onnx_cases import infer, node_case, run, run_onnx

MODES = {"bilinear": "linear", "bicubic": "cubic"}
NODE_CASES = ["", "_zeros_padding", "_border_padding", "_reflection_padding", "_bilinear", "_aligncorners_true"]
NODE_CASES += ["_nearest", "_bicubic"]
NODE_CASES += [f"_{m}_align_corners_{a}_additional_1" for m in ("nearest", "bilinear", "bicubic") for a in (0, 1)]
NODE_CASES += [f"_volumetric_{m}_align_corners_{a}" for m in ("nearest", "bilinear") for a in (0, 1)]


@pytest.mark.parametrize("name", NODE_CASES)
def test_onnx_node_cases(name: str) -> None:
    case = node_case(f"gridsample{name}")
    attributes = dict(case.attributes)
    attributes["mode"] = MODES.get(attributes.get("mode", "linear"), attributes.get("mode", "linear"))
    (y,) = run("grid_sample", case.inputs, attributes)
    np.testing.assert_allclose(y, case.expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_against_onnxruntime(mode: str, padding_mode: str, align_corners: bool) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    # Far outside as well, so that reflection folds more than once.
    grid = rng.uniform(-4, 4, (2, 6, 7, 2)).astype(np.float32)
    given = {"mode": mode, "padding_mode": padding_mode, "align_corners": int(align_corners)}
    (expected,) = run_onnx("GridSample", [x, grid], given, opset=20, runtime=True)
    attributes = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    np.testing.assert_allclose(run("grid_sample", [x, grid], attributes)[0], expected, rtol=1e-4, atol=1e-4)


def test_inference() -> None:
    assert infer("grid_sample", ["float32[N, 3, H, W]", "float32[N, h, w, 2]"], {}) == ["float32[N, 3, h, w]"]


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (("float32[1, 3, 4, 4]", "float32[1, 5, 5, 3]"), "grid has the wrong shape"),
        (("float32[1, 3, 4, 4]", "float32[2, 5, 5, 2]"), "grid has the wrong shape"),
        (("float32[1, 3, 4, 4]", "float32[1, 5, 2]"), "wrong rank"),
        (("int32[1, 3, 4, 4]", "float32[1, 5, 5, 2]"), "element type"),
    ],
)
def test_refuses(types: tuple[str, str], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        infer("grid_sample", types, {})


def test_mode_table_is_complete() -> None:
    for mode, padding in itertools.product(("nearest", "linear", "cubic"), ("zeros", "border", "reflection")):
        x = np.ones((1, 1, 1, 1), np.float32)
        grid = np.zeros((1, 2, 2, 2), np.float32)
        assert np.isfinite(run("grid_sample", [x, grid], {"mode": mode, "padding_mode": padding})[0]).all()
