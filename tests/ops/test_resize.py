from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ops.resize import COORDINATES
from tests.ops.onnx_cases import NodeCase, infer, node_case, run, run_onnx

NODE_CASES = [
    "upsample_scales_nearest",
    "downsample_scales_nearest",
    "upsample_sizes_nearest",
    "downsample_sizes_nearest",
    "upsample_scales_linear",
    "upsample_scales_linear_align_corners",
    "downsample_scales_linear",
    "downsample_scales_linear_align_corners",
    "upsample_scales_cubic",
    "upsample_scales_cubic_align_corners",
    "downsample_scales_cubic",
    "downsample_scales_cubic_align_corners",
    "upsample_sizes_cubic",
    "downsample_sizes_cubic",
    "upsample_scales_cubic_A_n0p5_exclude_outside",
    "downsample_scales_cubic_A_n0p5_exclude_outside",
    "upsample_scales_cubic_asymmetric",
    "tf_crop_and_resize",
    "tf_crop_and_resize_extrapolation_value",
    "downsample_sizes_linear_pytorch_half_pixel",
    "upsample_sizes_nearest_floor_align_corners",
    "upsample_sizes_nearest_round_prefer_ceil_asymmetric",
    "upsample_sizes_nearest_ceil_half_pixel",
    "downsample_scales_linear_antialias",
    "downsample_sizes_linear_antialias",
    "downsample_scales_cubic_antialias",
    "downsample_sizes_cubic_antialias",
    "upsample_scales_nearest_axes_2_3",
    "upsample_scales_nearest_axes_3_2",
    "upsample_sizes_nearest_axes_2_3",
    "upsample_sizes_nearest_axes_3_2",
    "tf_crop_and_resize_axes_2_3",
    "tf_crop_and_resize_axes_3_2",
    "upsample_sizes_nearest_not_larger",
    "upsample_sizes_nearest_not_smaller",
    "downsample_sizes_nearest_not_larger",
    "downsample_sizes_nearest_not_smaller",
    "downsample_scales_linear_half_pixel_symmetric",
    "upsample_scales_linear_half_pixel_symmetric",
]


def canonical(case: NodeCase) -> tuple[np.ndarray, dict[str, Any]]:
    """The canonical form of a Resize node: full rank, sizes and scales both given."""
    x, roi, scales, sizes = (case.input(i) for i in range(4))
    assert x is not None
    given = case.attributes
    axes = given.get("axes", list(range(x.ndim)))
    full_scales, full_sizes = [1.0] * x.ndim, list(x.shape)
    full_roi = [0.0] * x.ndim + [1.0] * x.ndim
    if sizes is not None:
        ratios = [int(size) / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        policy = given.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [min(ratios) if policy == "not_larger" else max(ratios)] * len(axes)
            sizes = np.array([int(r * x.shape[axis] + 0.5) for axis, r in zip(axes, ratios, strict=True)])
    else:
        assert scales is not None
        ratios = [float(scale) for scale in scales]
        sizes = np.array([math.floor(r * x.shape[axis]) for axis, r in zip(axes, ratios, strict=True)])
    for i, axis in enumerate(axes):
        full_scales[axis], full_sizes[axis] = ratios[i], int(sizes[i])
        if roi is not None:
            full_roi[axis], full_roi[axis + x.ndim] = float(roi[i]), float(roi[i + len(axes)])
    attributes = {
        key: given[key]
        for key in ("mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias")
        if key in given
    }
    if "coordinate_transformation_mode" in given:
        attributes["coordinate_transformation"] = given["coordinate_transformation_mode"]
    return x, {**attributes, "sizes": full_sizes, "scales": full_scales, "roi": full_roi}


@pytest.mark.parametrize("name", NODE_CASES)
def test_onnx_node_cases(name: str) -> None:
    case = node_case(f"resize_{name}")
    x, attributes = canonical(case)
    (y,) = run("resize", [x], attributes)
    np.testing.assert_allclose(y, case.expected[0], rtol=case.rtol, atol=max(case.atol, 1e-6))


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_every_coordinate_mode_against_the_onnx_reference(coordinates: str, mode: str) -> None:
    rng = np.random.default_rng(5)
    # Sizes that keep positions off whole numbers, where rounding makes the reference read the wrong neighbours.
    x = rng.standard_normal((2, 3, 5, 6)).astype(np.float32)
    for scales, antialias, exclude in itertools.product(
        ([1, 1, 2, 1.5], [1, 1, 0.6, 0.45], [1, 1, 0.2, 3]), (False, True), (False, True)
    ):
        if (antialias and mode == "nearest") or (exclude and mode != "cubic"):
            continue
        factors = np.array(scales, np.float32)
        roi = np.array([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.1], np.float32)
        onnx_attributes = {
            "mode": mode,
            "coordinate_transformation_mode": coordinates,
            "antialias": int(antialias),
            "exclude_outside": int(exclude),
            "extrapolation_value": 9.0,
            "nearest_mode": "floor",
        }
        (expected,) = run_onnx("Resize", [x, roi, factors], onnx_attributes, opset=19)
        attributes = {
            "sizes": expected.shape,
            "scales": [float(f) for f in factors],
            "mode": mode,
            "coordinate_transformation": coordinates,
            "antialias": antialias,
            "exclude_outside": exclude,
            "extrapolation_value": 9.0,
            "nearest_mode": "floor",
            "roi": [float(f) for f in roi],
        }
        (y,) = run("resize", [x], attributes)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5, err_msg=f"{scales} {antialias} {exclude}")


@pytest.mark.parametrize("nearest_mode", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_nearest_modes_against_onnxruntime(nearest_mode: str, coordinates: str) -> None:
    x = np.arange(2 * 12, dtype=np.float32).reshape(1, 2, 4, 3)
    given = {"mode": "nearest", "nearest_mode": nearest_mode, "coordinate_transformation_mode": coordinates}
    sizes = np.array([1, 2, 8, 5], np.int64)
    (expected,) = run_onnx("Resize", [x, None, None, sizes], given, opset=19, runtime=True)
    attributes = {"nearest_mode": nearest_mode, "coordinate_transformation": coordinates, "sizes": sizes.tolist()}
    np.testing.assert_array_equal(run("resize", [x], attributes)[0], expected)


def test_integers_are_rounded_and_saturated() -> None:
    x = np.array([[[[0, 255, 255, 0]]]], np.uint8)
    (y,) = run("resize", [x], {"sizes": [1, 1, 1, 7], "mode": "cubic"})
    scales = np.array([1, 1, 1, 1.75], np.float32)
    (expected,) = run_onnx("Resize", [x, None, scales], {"mode": "cubic"}, opset=19)
    assert y.dtype == np.uint8
    np.testing.assert_array_equal(y, expected)


def test_inference_and_layouts() -> None:
    assert infer("resize", ["float32[N, 3, H, W]"], {"sizes": _symbols("N, 3, 2*H, 2*W")}) == [
        "float32[N, 3, 2*H, 2*W]"
    ]
    blocked = "float32[1, 32, 4, 4]{NCHW16c}"
    assert infer("resize", [blocked], {"sizes": [1, 32, 8, 8]}) == ["float32[1, 32, 8, 8]{NCHW16c}"]
    with pytest.raises(EdgeIRError, match="blocked axis"):
        infer("resize", [blocked], {"sizes": [1, 64, 8, 8]})


def _symbols(text: str) -> tuple:
    from edgeir.ir.types import parse_type

    return parse_type(f"float32[{text}]").shape


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"sizes": [1, 2]}, "wrong length"),
        ({"sizes": [1, 3, 0, 4]}, "unusable sizes"),
        ({"sizes": [1, 3, 4, 4], "scales": [1.0, 1.0, 0.0, 1.0]}, "unusable scales"),
        ({"sizes": [1, 3, 4, 4], "antialias": True}, "antialiasing needs weights"),
        ({"sizes": [1, 3, 4, 4], "roi": [0.0] * 4}, "roi"),
    ],
)
def test_refuses(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        infer("resize", ["float32[1, 3, 2, 2]"], attributes)
