from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from tests.ops.onnx_cases import infer, node_case, run, run_onnx

NODE_CASES = ["basic_deform_conv_with_padding", "basic_deform_conv_without_padding", "deform_conv_with_mask_bias"]


def canonical(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "strides": given.get("strides", [1, 1]),
        "padding": given.get("pads", [0] * 4),
        "dilations": given.get("dilations", [1, 1]),
        "groups": given.get("group", 1),
        "offset_groups": given.get("offset_group", 1),
    }


@pytest.mark.parametrize("name", [*NODE_CASES, "deform_conv_with_multiple_offset_groups"])
def test_onnx_node_cases(name: str) -> None:
    case = node_case(name)
    (y,) = run("deform_conv", case.inputs, canonical(case.attributes))
    np.testing.assert_allclose(y, case.expected[0], rtol=case.rtol, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("offset_groups", [1, 4])
def test_against_the_onnx_reference(groups: int, offset_groups: int) -> None:
    rng = np.random.default_rng(9)
    given = {
        "strides": [2, 1],
        "pads": [1, 0, 1, 2],
        "dilations": [1, 2],
        "group": groups,
        "offset_group": offset_groups,
    }
    x = rng.standard_normal((2, 4, 7, 8)).astype(np.float32)
    w = rng.standard_normal((2, 4 // groups, 3, 2)).astype(np.float32)
    offset = rng.uniform(-3, 3, (2, offset_groups * 12, 4, 8)).astype(np.float32)
    mask = rng.uniform(0, 1, (2, offset_groups * 6, 4, 8)).astype(np.float32)
    inputs = [x, w, offset, rng.standard_normal(2).astype(np.float32), mask]
    (expected,) = run_onnx("DeformConv", inputs, given)
    np.testing.assert_allclose(run("deform_conv", inputs, canonical(given))[0], expected, rtol=1e-3, atol=1e-4)


def test_inference_and_refusals() -> None:
    attributes = canonical({"pads": [1] * 4})
    types = ["float32[N, 4, H, 8]", "float32[6, 4, 3, 3]", "float32[N, 18, H, 8]"]
    assert infer("deform_conv", types, attributes) == ["float32[N, 6, H, 8]"]
    with pytest.raises(TypeInferenceError, match="offset has the wrong shape"):
        infer("deform_conv", [*types[:2], "float32[N, 9, H, 8]"], attributes)
    with pytest.raises(TypeInferenceError, match="unusable attributes"):
        infer("deform_conv", types, {**attributes, "groups": 3})
