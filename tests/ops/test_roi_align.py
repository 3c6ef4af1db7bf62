from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from tests.ops.onnx_cases import infer, node_case, run, run_onnx


def canonical(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "height": given.get("output_height", 1),
        "width": given.get("output_width", 1),
        "mode": {"avg": "average", "max": "max"}[given.get("mode", "avg")],
        "sampling_ratio": given.get("sampling_ratio", 0),
        "spatial_scale": given.get("spatial_scale", 1.0),
        "half_pixel": given.get("coordinate_transformation_mode", "half_pixel") == "half_pixel",
    }


@pytest.mark.parametrize("name", ["roialign_aligned_false", "roialign_aligned_true", "roialign_mode_max"])
def test_onnx_node_cases(name: str) -> None:
    case = node_case(name)
    (y,) = run("roi_align", case.inputs, canonical(case.attributes))
    np.testing.assert_allclose(y, case.expected[0], rtol=case.rtol, atol=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 3])
@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
def test_against_the_onnx_reference(mode: str, sampling_ratio: int, coordinates: str) -> None:
    rng = np.random.default_rng(7)
    x = rng.uniform(0.1, 1, (2, 3, 9, 8)).astype(np.float32)
    # Regions that leave the map on every side.
    begins = rng.uniform(-6, 14, (5, 2))
    rois = np.concatenate([begins, begins + rng.uniform(0.5, 12, (5, 2))], axis=1).astype(np.float32)
    batch = rng.integers(0, 2, 5)
    given = {
        "output_height": 3,
        "output_width": 2,
        "mode": mode,
        "sampling_ratio": sampling_ratio,
        "spatial_scale": 0.7,
        "coordinate_transformation_mode": coordinates,
    }
    (expected,) = run_onnx("RoiAlign", [x, rois, batch], given)
    (y,) = run("roi_align", [x, rois, batch], canonical(given))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_inference_and_refusals() -> None:
    types = ["float32[N, C, H, W]", "float32[R, 4]", "int64[R]"]
    assert infer("roi_align", types, {"height": 7, "width": 5}) == ["float32[R, C, 7, 5]"]
    with pytest.raises(TypeInferenceError, match="rois has the wrong shape"):
        infer("roi_align", [types[0], "float32[R, 5]", types[2]], {"height": 7, "width": 5})
    with pytest.raises(TypeInferenceError, match="unusable height"):
        infer("roi_align", types, {"height": 0, "width": 5})
    with pytest.raises(EdgeIRError, match="batch index out of range"):
        run("roi_align", [np.zeros((1, 1, 4, 4)), np.ones((1, 4)), np.array([1])], {"height": 1, "width": 1})
